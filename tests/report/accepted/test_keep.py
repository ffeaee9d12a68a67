"""The accepted run: what is kept of a run, and which runs are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from nsa.errors import RecordError
from nsa.records import parquet
from nsa.report.accepted.keep import BASELINE, file_of, keep, read_accepted
from nsa.report.analysis.read import read_cell
from nsa.report.analysis.summary import figures
from nsa.report.verdict.run import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

ENVIRONMENT = {"device": "NVIDIA Synthetic", "cpu": "Synthetic CPU"}
SYNTHETIC = "nvidia-synthetic.parquet"


def accept(lab: Lab, cells: list[Path], checks: list[Path], *, cpu: bool = False) -> str:
    """Read the records as `nsa accept` does, and keep them."""
    run = read_run(ENVIRONMENT, lab.collect(cells), cells, checks, lab.stamps, lab.settings)
    return keep(run, lab.stamps, lab.config, lab.accepted, cpu=cpu)


def test_an_accepted_run_keeps_every_medians_of_every_process(lab: Lab) -> None:
    """What is not kept can never be compared, and repetitions would be too large for git."""
    cells = [lab.cell("sdpa", 128), lab.cell("cuda", 2048), lab.cell("triton", 128, status="unavailable")]
    said = accept(lab, cells, [lab.check("cuda"), lab.check("sdpa")])
    path = lab.accepted / SYNTHETIC
    assert said == (f"accepted: {path}: 4 records of NVIDIA Synthetic; left out: triton (unavailable)")
    accepted = read_accepted(path)
    steps = accepted.times.query("kind == 'decode' and arm == 'all' and backend == 'sdpa'")
    assert list(steps["process"]) == [0, 1, 2]
    times = figures(read_cell(cells[0]), 0.95)
    assert steps["time_ms"].prod() ** (1 / 3) == pytest.approx(times["ms_total"])
    assert set(accepted.times.query("kind == 'decode'")["arm"]) >= {"none", "all", "empty"}
    shapes = accepted.times.query("kind == 'check' and backend == 'cuda'")
    assert len(shapes) == 4 * 3  # shapes of the grid, processes; no rival
    assert shapes["time_ms"].mean() == pytest.approx(0.030, rel=0.01)
    assert path.stat().st_size < 30_000
    assert accepted.facts["git_commit"] == "abc123"
    assert accepted.facts["settings"]["decode-sdpa"] == lab.stamp["settings"]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "stale": ({"facts": {"stamp": {"sources": "old"}}}, {}, "sdpa/S128 is STALE"),
    "blocked": ({"facts": {"outputs_finite": False}}, {}, "output_not_finite blocks sdpa/S128"),
    "one process": ({"processes": 1}, {}, "sdpa at S = 128 has 1 process, expected at least 2"),
    "wrong results": ({}, {"alter": ({"backend": "cuda"}, {"mae": 1.0})}, "cuda gives wrong results at N=256"),
    "stale check": ({}, {"facts": {"stamp": {"sources": "old"}}}, "check_cuda is STALE"),
    "nothing measured": ({"status": "unavailable"}, {"status": "unavailable"}, "nothing was measured"),
    "a CPU": ({"device": "cpu"}, {"device": "cpu"}, "whose times decide nothing; .* --cpu"),
    "another model": (
        {"alter": ({"device": "cuda"}, {"device_name": "NVIDIA Other"})},
        {},
        "sdpa/S128 was measured on NVIDIA Other, and this run is of NVIDIA Synthetic",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unsound_run_is_refused_in_one_line_and_keeps_nothing(case: str, lab: Lab) -> None:
    """Every later run would be judged by it."""
    of_cell, of_check, said = REFUSED[case]
    with pytest.raises(RecordError, match=said) as caught:
        accept(lab, [lab.cell("sdpa", 128, **of_cell)], [lab.check("cuda", **of_check)])
    assert "\n" not in str(caught.value)
    assert not lab.accepted.exists()


def test_a_broken_record_is_refused_by_name(lab: Lab) -> None:
    """A run of which half cannot be read is no run."""
    cell = lab.cell("sdpa", 128)
    (lab.root / "check_cuda.parquet").write_bytes(b"broken")
    with pytest.raises(RecordError, match="check_cuda is INVALID"):
        accept(lab, [cell], [lab.root / "check_cuda.parquet"])


def test_too_slow_a_kernel_is_kept(lab: Lab) -> None:
    """A baseline holds figures, not a verdict: work on a rejected kernel wants its regressions seen."""
    assert "2 records" in accept(lab, [lab.cell("sdpa", 128)], [lab.check("cuda", speedup=1.01)])


def test_a_cpu_run_is_kept_when_asked_for_under_a_name_of_its_own(lab: Lab) -> None:
    """It must never be taken for a GPU's."""
    accept(lab, [lab.cell("sdpa", 128, device="cpu")], [], cpu=True)
    assert [path.name for path in lab.accepted.iterdir()] == ["cpu-synthetic-cpu.parquet"]


@pytest.mark.parametrize("fault", ["missing", "broken", "foreign", "a record", "a NaN"])
def test_a_broken_baseline_is_one_clear_line(fault: str, lab: Lab) -> None:
    """It lies in git, where anybody can edit, merge or rename it."""
    accept(lab, [lab.cell("sdpa", 128)], [])
    path = file_of(lab.accepted, "NVIDIA Synthetic", "cuda")
    table, facts = parquet.read(path)
    match fault:
        case "missing":
            path.unlink()
        case "broken":
            path.write_bytes(b"x")
        case "foreign":
            pd.DataFrame({"a": [1]}).to_parquet(path)
        case "a record":
            parquet.write_table(path, table, {"stage": "decode"})
        case "a NaN":
            times = table.to_pandas().assign(time_ms=float("nan"))
            parquet.write(path, times.to_dict("records"), BASELINE, facts)  # type: ignore[arg-type]
    with pytest.raises(RecordError, match=r"nvidia-synthetic\.parquet.*; restore it from git, or accept a run again$"):
        read_accepted(path)
