"""Stamps as their readers see them."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins import DIGESTS, stage_inputs

from nsa.errors import RecordError
from nsa.records import stamp


def test_a_record_carries_the_three_digests(tmp_path: Path) -> None:
    """What a record is compared by are the digests of sources, settings and machine."""
    path, _ = stage_inputs(tmp_path, "decode/cuda", {"decode": {"batch": 1}})
    found = stamp.read(path)
    assert found.carried == DIGESTS
    assert found.settings["decode"] == {"batch": 1} and found.gone is None


@pytest.mark.parametrize("content", [None, "{", '{"stage": "decode"}'])
def test_a_stamp_that_cannot_be_read_is_written_anew_by_snakemake(content: str | None, tmp_path: Path) -> None:
    """The way out of a missing or broken stamp is a dry run, which writes it."""
    if content is not None:
        (tmp_path / "decode.json").write_text(content)
    with pytest.raises(RecordError, match=r"decode.json: .*; run `snakemake -n`, which writes it anew$") as caught:
        stamp.read(tmp_path / "decode.json")
    assert "delete it" not in str(caught.value)
