"""What of a report cannot be compared with the accepted run, and the reason that it gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from accepted_runs import accept, against, decode, lines, measure, verdicts
from synthetic import OLD

from nsa.records import parquet
from nsa.records.made import AcceptedHeader
from nsa.records.words import CONTROLS
from nsa.report.accepted.keep import MEDIANS
from nsa.report.verdict.exit import read as said_of

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def test_an_accepted_run_without_a_control_cannot_be_compared(lab: Lab) -> None:
    """One that was kept before there was a control says so in one line, with what to do."""
    files = measure(lab, day=22)
    accept(lab, files)
    path = lab.accepted / "nvidia-synthetic.parquet"
    table, header = parquet.read(path, AcceptedHeader)
    rows = [row for row in table.to_pylist() if row["arm"] not in CONTROLS]
    parquet.write(path, rows, MEDIANS, header)
    found = against(lab, measure(lab))
    assert (found.status, found.lines) == ("not comparable", ())
    assert found.reason == (
        f"Not comparable: {path} was accepted when runs had no control, without which a slower kernel and a slower "
        "machine look alike; `python -m nsa accept` keeps a run anew."
    )


def test_a_record_whose_control_was_not_kept_is_not_compared(lab: Lab) -> None:
    """The other records are."""
    accept(lab, measure(lab, day=22))
    path = lab.accepted / "nvidia-synthetic.parquet"
    table, header = parquet.read(path, AcceptedHeader)
    kept = [row for row in table.to_pylist() if (row["S"], row["arm"]) != (128, "control:train")]
    parquet.write(path, [row for row in kept if row["kind"] == "decode" or not row["arm"]], MEDIANS, header)
    said = lines(against(lab, measure(lab)))
    assert said["sdpa", "S = 128"].reason == said["cuda", "geometric mean"].reason == "no control was timed beside it"
    assert said["cuda", "S = 2048"].verdict == "same"


NOT_COMPARABLE: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "config": ({}, {"window": 256}, "other config: decode.model.window was 512, is 256"),
    "flush": (
        {"facts": {"flush": "write 64 MiB"}},
        {},
        "other config: decode.flush was write 256 MiB, read 256 MiB, is",
    ),
    "blocked": ({"facts": {"outputs_finite": False}}, {}, "blocked by output_not_finite"),
    "unavailable": ({"status": "unavailable"}, {}, "today it is unavailable (cuda is not here)"),
    "stale": ({"said": {"stamp": OLD}}, {}, "today it is STALE (sources"),
}


@pytest.mark.parametrize("case", NOT_COMPARABLE)
def test_what_cannot_be_compared_says_why(case: str, lab: Lab) -> None:
    """Another setting, flush, a blocking check or no record make a line not comparable, and touch no other kind."""
    of_cell, model, reason = NOT_COMPARABLE[case]
    accept(lab, measure(lab, day=22))
    config = decode(lab.config, model=lab.config.decode.model.model_copy(update=model))
    found = lines(against(lab, measure(lab, **of_cell), config))
    line = found["cuda", "S = 2048"]
    assert (line.verdict, str(line.reason).startswith(reason)) == ("not comparable", True), line.reason
    assert found["cuda", "geometric mean"].verdict == "same"


def test_a_blocked_kernel_check_is_not_compared(lab: Lab) -> None:
    """Times that say nothing today say nothing of a change."""
    accept(lab, measure(lab, day=22))
    found = lines(against(lab, measure(lab, check={"drop": {"backend": "again:cuda"}})))
    assert found["cuda", "geometric mean"].reason == "blocked by aa_control"
    assert found["cuda", "S = 2048"].verdict == "same"


def test_how_often_it_is_timed_does_not_matter(lab: Lab) -> None:
    """A run of other processes, repetitions and seeds is comparable."""
    accept(lab, measure(lab, day=22))
    found = against(lab, measure(lab), decode(lab.config, processes=5, iters=99, seed=3))
    assert set(verdicts(found).values()) == {"same"}


def test_cells_of_one_run_only_are_named(lab: Lab) -> None:
    """A context that was added and a backend that was dropped are both said."""
    cells, checks = measure(lab)
    accept(lab, (cells[1:], checks))
    found = lines(against(lab, (cells[:2], checks)))
    assert found["sdpa", "S = 128"].reason == "it is not in the accepted run"
    assert found["cuda", "S = 2048"].reason == "it is not measured any more"


def test_another_gpu_is_not_comparable(lab: Lab) -> None:
    """An accepted run of another model is named, and compared with nothing."""
    accept(lab, measure(lab, day=22))
    (lab.accepted / "nvidia-synthetic.parquet").rename(lab.accepted / "nvidia-h200.parquet")
    found = against(lab, measure(lab))
    assert found.status == "not comparable"
    assert "another GPU. No run of NVIDIA Synthetic was accepted (nvidia-synthetic.parquet), only nvidia-h200." in (
        found.reason
    )


def test_a_renamed_accepted_run_is_not_comparable(lab: Lab) -> None:
    """The file says of which model it is; its name does not decide."""
    accept(lab, measure(lab, day=22))
    path = lab.accepted / "nvidia-synthetic.parquet"
    table, header = parquet.read(path, AcceptedHeader)
    parquet.write_table(path, table, header.model_copy(update={"model": "NVIDIA H200"}))
    assert against(lab, measure(lab)).reason.endswith("is of NVIDIA H200, and this run is of NVIDIA Synthetic.")


def test_a_broken_accepted_run_is_invalid_and_fails_the_check(lab: Lab) -> None:
    """A file that cannot be read is said, and fails `nsa check`."""
    lab.accepted.mkdir()
    (lab.accepted / "nvidia-synthetic.parquet").write_bytes(b"broken")
    lab.render(*measure(lab))
    reason = json.loads(lab.layout.gate.read_text())["comparison"]["reason"]
    found, report = said_of(lab.layout.gate), lab.layout.report.read_text()
    assert found.status == 1 and f"the accepted run: {reason}" in found.lines
    assert "The accepted run is INVALID" in report
