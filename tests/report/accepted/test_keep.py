"""The accepted run: what is kept of a run, and which runs are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
from synthetic import GPU, OLD, STAMP

from nsa.errors import RecordError
from nsa.records import parquet
from nsa.records.made import AcceptedHeader, ChecksHeader
from nsa.report.accepted.keep import MEDIANS, file_of, keep, read_accepted
from nsa.report.analysis.read import read_cell
from nsa.report.analysis.summary import figures

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

SYNTHETIC = "nvidia-synthetic.parquet"
A100 = GPU.model_copy(update={"name": "NVIDIA A100"})


def accept(lab: Lab, cells: list[Path], checks: list[Path], *, cpu: bool = False) -> str:
    """Read the records as `nsa accept` does, and keep them."""
    return keep(lab.run(cells, checks), lab.config, lab.accepted, cpu=cpu)


def test_an_accepted_run_keeps_the_medians_of_every_process(lab: Lab) -> None:
    """Every arm of each cell and the kernel on every shape are kept, one time a process; rivals are not."""
    cells = [lab.cell("sdpa", 128), lab.cell("cuda", 2048), lab.cell("triton", 128, status="unavailable")]
    said = accept(lab, cells, [lab.check("cuda"), lab.check("sdpa")])
    path = lab.accepted / SYNTHETIC
    assert said == (f"accepted: {path}: 4 records of NVIDIA Synthetic; left out: triton (unavailable)")
    accepted = read_accepted(path)
    steps = accepted.times.query("kind == 'decode' and arm == 'all' and backend == 'sdpa'")
    assert list(steps["process"]) == [0, 1, 2]
    total = figures(read_cell(cells[0]), 0.95).arms.ms_total.value
    assert steps["time_ms"].prod() ** (1 / 3) == pytest.approx(total)
    assert set(accepted.times.query("kind == 'decode'")["arm"]) >= {"none", "all", "empty"}
    kernel = accepted.times.query("kind == 'check' and backend == 'cuda'")
    assert set(kernel["arm"].dropna()) == {"control:train", "control:copy"} <= set(steps_of(accepted.times))
    shapes = kernel[kernel["arm"].isna()]
    assert len(shapes) == 4 * 3  # shapes of the grid, processes
    assert shapes["time_ms"].mean() == pytest.approx(0.030, rel=0.01)
    assert path.stat().st_size < 30_000


def steps_of(times: pd.DataFrame) -> list[str]:
    """What was timed in decode cells."""
    return list(times.query("kind == 'decode'")["arm"])


def test_an_accepted_run_says_what_it_is_of(lab: Lab) -> None:
    """Its header has the model, the commit, the software, what was timed and the identity of every record."""
    accept(lab, [lab.cell("sdpa", 128)], [lab.check("cuda")])
    header = read_accepted(lab.accepted / SYNTHETIC).header
    assert (header.stage, header.model, header.device, header.git_commit) == ("accepted", GPU.name, "cuda", "abc123")
    assert (header.software["torch"], header.software["driver"], header.software["nvcc"]) == ("2.13", "580.1", "None")
    assert set(header.records) == {"sdpa/S128", "check_cuda"}
    assert header.records["check_cuda"].stamp == STAMP
    timed = header.timed["decode"]
    assert (timed["model.window"], timed["dtype"], timed["flush"]) == (512, "bfloat16", "write 256 MiB, read 256 MiB")
    assert {"iters", "processes", "seed", "timeout_s", "cpu_threads"}.isdisjoint(timed)
    assert "rows" not in header.timed["check"] and header.timed["check"]["context"] == 4096


REFUSED: dict[str, tuple[dict[str, object], dict[str, object], str]] = {
    "stale": ({"said": {"stamp": OLD}}, {}, "sdpa/S128 is STALE"),
    "blocked": ({"facts": {"outputs_finite": False}}, {}, "output_not_finite blocks sdpa/S128"),
    "one process": ({"processes": 1}, {}, "sdpa at S = 128 has 1 process, expected at least 2"),
    "wrong results": ({}, {"alter": ({"backend": "cuda"}, {"mae": 1.0})}, "cuda gives wrong results at N=256"),
    "blocked check": ({}, {"drop": {"backend": "again:cuda"}}, "aa_control blocks check_cuda"),
    "stale check": ({}, {"said": {"stamp": OLD}}, "check_cuda is STALE"),
    "nothing measured": ({"status": "unavailable"}, {"status": "unavailable"}, "nothing was measured"),
    "a CPU": ({"device": "cpu"}, {"device": "cpu"}, "whose times decide nothing; .* --cpu"),
    "another model": (
        {
            "facts": {"device": A100},
            "said": {"device": A100},
            "alter": ({"device": "cuda"}, {"device_name": A100.name}),
        },
        {},
        "sdpa/S128 was measured on NVIDIA A100, and this run is of NVIDIA Synthetic",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_unsound_run_is_refused_in_one_line_and_keeps_nothing(case: str, lab: Lab) -> None:
    """A run whose figures are no measure for later runs is refused by name, and no file is written."""
    of_cell, of_check, said = REFUSED[case]
    with pytest.raises(RecordError, match=said) as caught:
        accept(lab, [lab.cell("sdpa", 128, **of_cell)], [lab.check("cuda", **of_check)])
    assert "\n" not in str(caught.value)
    assert not lab.accepted.exists()


def test_a_broken_record_is_refused_by_name(lab: Lab) -> None:
    """A record that cannot be read is refused by name."""
    cell = lab.cell("sdpa", 128)
    (lab.root / "check_cuda.parquet").write_bytes(b"broken")
    with pytest.raises(RecordError, match="check_cuda is INVALID"):
        accept(lab, [cell], [lab.root / "check_cuda.parquet"])


def test_too_slow_a_kernel_is_kept(lab: Lab) -> None:
    """An accepted run holds figures, not a verdict: a rejected kernel is kept."""
    assert "2 records" in accept(lab, [lab.cell("sdpa", 128)], [lab.check("cuda", speedup=1.01)])


def test_a_cpu_run_is_kept_when_asked_for_under_a_name_of_its_own(lab: Lab) -> None:
    """A CPU's run has a file name that no GPU's has."""
    accept(lab, [lab.cell("sdpa", 128, device="cpu")], [], cpu=True)
    assert [path.name for path in lab.accepted.iterdir()] == ["cpu-synthetic-cpu.parquet"]


@pytest.mark.parametrize("fault", ["missing", "broken", "foreign", "a record", "a NaN"])
def test_a_broken_accepted_run_is_one_clear_line(fault: str, lab: Lab) -> None:
    """A file that is missing, broken, foreign or edited says so in one line with its fix."""
    accept(lab, [lab.cell("sdpa", 128)], [])
    path = file_of(lab.accepted, "NVIDIA Synthetic", "cuda")
    table, header = parquet.read(path, AcceptedHeader)
    match fault:
        case "missing":
            path.unlink()
        case "broken":
            path.write_bytes(b"x")
        case "foreign":
            pd.DataFrame({"a": [1]}).to_parquet(path)
        case "a record":
            parquet.write_table(path, table, ChecksHeader())
        case "a NaN":
            times = table.to_pandas().assign(time_ms=float("nan"))
            parquet.write(path, times.to_dict("records"), MEDIANS, header)
    with pytest.raises(RecordError, match=r"nvidia-synthetic\.parquet.*; restore it from git, or accept a run again$"):
        read_accepted(path)


def test_an_accepted_run_of_an_older_version_is_explained(lab: Lab) -> None:
    """One of schema 1, which was called a baseline, says that a run is to be accepted again."""
    accept(lab, [lab.cell("sdpa", 128)], [])
    path = file_of(lab.accepted, "NVIDIA Synthetic", "cuda")
    old = b'{"schema_version": 1, "stage": "baseline", "model": "NVIDIA Synthetic", "device": "cuda"}'
    pq.write_table(parquet.read_table(path).replace_schema_metadata({b"nsa": old}), path)
    with pytest.raises(RecordError) as error:
        read_accepted(path)
    assert str(error.value) == (
        f"{path}: was accepted by another version of this project (schema 1, expected 2); accept a run again"
    )
