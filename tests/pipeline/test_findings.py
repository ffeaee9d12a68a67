"""Notes of `nsa doctor`: what is not of today, and how to get there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsa.config import Config
from nsa.layout import Layout
from nsa.pipeline.findings import differences, older_version

CONFIG = Path("config.yaml")


def changed(raw: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """config.yaml with other values; a section's keys are merged into it."""
    return raw | {key: raw[key] | value if isinstance(value, dict) else value for key, value in sections.items()}


def test_the_first_keys_that_differ_are_named(raw: dict[str, Any]) -> None:
    """Who reads the report learns which of its settings are not those of config.yaml any more."""
    before = Config.parse(raw, {})
    after = Config.parse(changed(raw, contexts=[128], decode={"iters": 5, "warmup": 2, "seed": 7}), {})
    (note,) = differences(CONFIG, after, before)
    assert not note.fault
    assert str(note) == (
        "config.yaml: not what the run in this folder was made with: contexts is [128], was [128, 256, 512, 1024], "
        "decode.iters is 5, was 32, decode.warmup is 2, was 8 and 1 more; a note: run `snakemake` for what it says now"
    )


@pytest.mark.parametrize(
    ("now", "then", "said"),
    [
        ({"NSA_FA2_FORCE": "1"}, {}, "NSA_FA2_FORCE is 1, was unset"),
        ({}, {"NSA_SEL_CUDA_BUILD": "0"}, "NSA_SEL_CUDA_BUILD is unset, was 0"),
    ],
)
def test_a_flag_that_differs_is_named(
    now: dict[str, str], then: dict[str, str], said: str, raw: dict[str, Any]
) -> None:
    """A flag that is set now and was not then, or the other way round, is named."""
    (note,) = differences(CONFIG, Config.parse(raw, now), Config.parse(raw, then))
    assert f": {said}; " in str(note)


def test_the_same_configuration_has_no_note(raw: dict[str, Any]) -> None:
    """A flag that asks for what runs anyway makes no other run."""
    assert list(differences(CONFIG, Config.parse(raw, {"NSA_SEL_CUDA": "1"}), Config.parse(raw, {}))) == []


def test_files_of_an_older_version_are_explained(tmp_path: Path) -> None:
    """Who upgrades learns in one line each what an old file was, where the list of changes is, and what to do."""
    layout, accepted = Layout(tmp_path / "results"), tmp_path / "accepted"
    assert list(older_version(layout, accepted)) == []
    layout.stamps.mkdir(parents=True)
    for name in ("build.json", "tune.json", "deleted", "report.json"):
        (layout.stamps / name).touch()
    (tmp_path / "baselines").mkdir()
    found = list(older_version(layout, accepted))
    assert [finding.where.name for finding in found] == ["build.json", "tune.json", "deleted", "baselines"]
    assert all("see CHANGELOG.md" in finding.what and finding.fix.startswith("delete it") for finding in found)
