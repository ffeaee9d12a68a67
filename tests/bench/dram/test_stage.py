"""The DRAM stage: every way it can end is a status with its reason, and the bytes expected are those of the tensors."""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import DIGESTS, ON_CPU, ON_CUDA, WITH_GPU, stage_inputs

from nsa.bench.dram import profile as profile_module
from nsa.bench.dram import stage
from nsa.bench.dram.job import Job
from nsa.bench.method.inputs import full_case
from nsa.bench.method.reads import selected_by_tensors
from nsa.config import CheckSettings, Flags
from nsa.kernels.sdpa import backend as sdpa
from nsa.machine import ncu
from nsa.machine.environment import probe
from nsa.machine.host import Host, Machine
from nsa.records import files
from nsa.records.dram import DramFacts
from nsa.records.outcome import Failed, Header, Ok, Skipped, Unavailable
from nsa.records.shapes import CheckShape

GRID = CheckSettings()
ONE_SHAPE = CheckSettings(rows=(256,), head_dim=(64,), value_dim=(64,), sel_count=(8,))
EXPECTED = 33_825_024  # of ONE_SHAPE, see the test below

# As ncu prints them: its own lines around a table with a row of units.
COUNTED = """\
==PROF== Connected to process 1234 (/usr/bin/python3.12)
==PROF== Profiling "vectorized_gather_kernel" - 0: 0%....50%....100% - 1 pass
==PROF== Profiling "fmha_cutlassF" - 1: 0%....50%....100% - 1 pass
==PROF== Disconnected from process 1234
"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size","Device","CC",\
"dram__bytes_read.sum","dram__bytes_write.sum"
"","","","","","","","","","","","byte","byte"
"0","1234","python3.12","127.0.0.1","vectorized_gather_kernel","1","7","(128, 1, 1)","(80, 1, 1)","0","9.0",\
"34,000,000","33,000,000"
"1","1234","python3.12","127.0.0.1","fmha_cutlassF","1","7","(128, 1, 1)","(256, 1, 1)","0","9.0","33,500,000","4,096"
"2","1234","python3.12","127.0.0.1","spin_kernel","1","7","(1, 1, 1)","(1, 1, 1)","0","9.0","32","0"
"""
DENIED = (
    "==PROF== Connected to process 1234 (/usr/bin/python3.12)\n"
    "==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters on the "
    "target device 0. For instructions see https://developer.nvidia.com/ERR_NVGPUCTRPERM\n"
    "==PROF== Disconnected from process 1234\n"
    "==WARNING== No kernels were profiled.\n"
)


def fake_ncu(folder: Path, says: str, status: int = 0, complains: str = "") -> dict[str, str]:
    """An ncu that runs nothing, keeps its arguments and the job, and says this; returns where it is to be found."""
    (folder / "says").write_text(says)
    (folder / "complains").write_text(complains)
    program = folder / "ncu"
    program.write_text(
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" > {folder}/arguments\n'
        f'while [ $# -gt 1 ]; do shift; done; cp "$1" {folder}/job\n'
        f"cat {folder}/says; cat {folder}/complains >&2; exit {status}\n"
    )
    program.chmod(0o755)
    return {"PATH": str(folder)}


@pytest.fixture(autouse=True)
def nothing_installed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with the tests' GPU, on which only the tests' ncu is to be found; tests on a GPU see what is there."""
    if request.node.get_closest_marker("gpu"):
        return
    monkeypatch.setattr(ncu, "TOOLKIT", tmp_path / "absent")
    monkeypatch.setattr(ncu, "NSIGHT", tmp_path / "absent")
    monkeypatch.setattr(stage, "one_gpu", lambda host, say: nullcontext(host))


def measure(
    environ: dict[str, str],
    mode: str = "auto",
    host: Host = ON_CUDA,
    backend: str = "sdpa",
    settings: CheckSettings = ONE_SHAPE,
) -> tuple[Any, list[str]]:
    """What became of one backend's count, and what was said meanwhile."""
    said: list[str] = []
    result = stage.measure(backend, settings, mode, host, environ, said.append)
    assert result.device == host.device and result.rows == ()
    return result.outcome, said


def test_the_largest_shapes_are_counted_and_no_more_than_four() -> None:
    """The smallest and the largest sizes are counted, at the two largest numbers of rows."""
    sizes = [(s.rows, s.heads_per_group, s.head_dim, s.value_dim, s.sel_count) for s in stage.shapes(GRID)]
    assert sizes == [(256, 4, 64, 64, 8), (256, 4, 128, 128, 16), (1024, 4, 64, 64, 8), (1024, 4, 128, 128, 16)]
    assert {shape.dtype for shape in stage.shapes(GRID)} == {"bfloat16"}
    assert len(stage.shapes(GRID.model_copy(update={"rows": (16, 64, 256, 1024)}))) == 4
    assert len(stage.shapes(ONE_SHAPE)) == 1


def test_expected_bytes_by_hand() -> None:
    """Selected K and V, q, o, the indices and the lengths count once each."""
    (shape,) = stage.shapes(ONE_SHAPE)
    keys_and_values = 256 * 8 * 64 * (64 + 64) * 2  # rows, blocks, tokens, D + Dv, bytes of a bfloat16
    queries_and_outputs = 256 * 4 * (64 + 64) * 2
    indices, lengths = 256 * 8 * 4, 64 * 4
    assert keys_and_values + queries_and_outputs + indices + lengths == EXPECTED
    assert stage.expected_bytes(shape) == EXPECTED


@pytest.mark.parametrize(("context", "sel_count"), [(512, 4), (500, 4), (200, 8)])
def test_expected_bytes_are_those_of_the_tensors(context: int, sel_count: int) -> None:
    """The closed form is what the tensors of a call hold, a partial last block and a short context included."""
    shape = CheckShape(8, 4, 32, 64, sel_count, 64, context, 4, "float16")
    call = full_case(shape, 0, torch.device("cpu"))
    tokens = int(selected_by_tensors(call.block_indices, call.seq_lens, call.block_size).sum())
    outputs = call.q.numel() // 32 * 64 * 2
    given = sum(tensor.nbytes for tensor in (call.q, call.block_indices, call.seq_lens))
    assert stage.expected_bytes(shape) == tokens * (32 + 64) * 2 + given + outputs


def test_what_ncu_counted_is_recorded_kernel_by_kernel(tmp_path: Path) -> None:
    """Read and written bytes stand apart, for each kernel and for the shape; the marker's count for nothing."""
    outcome, _ = measure(fake_ncu(tmp_path, COUNTED))
    assert isinstance(outcome, Ok)
    facts = outcome.facts
    assert facts.device == ON_CUDA.device
    (shape,) = facts.shapes
    assert shape.shape.sizes == (256, 4, 64, 64, 8)
    assert (shape.bytes_read, shape.bytes_written) == (67_500_000, 33_004_096)
    assert shape.bytes_expected == EXPECTED
    assert shape.ratio == pytest.approx(100_504_096 / EXPECTED)
    assert [kernel.name for kernel in shape.kernels] == ["vectorized_gather_kernel", "fmha_cutlassF"]


def test_one_run_of_ncu_counts_every_shape(tmp_path: Path) -> None:
    """The kernels between two markers belong to one shape, in the order of the shapes."""
    table, rows = COUNTED.rstrip().rsplit("\n", 3)[0], COUNTED.rstrip().rsplit("\n", 3)[1:]
    second = [rows[1].replace("33,500,000", "1"), rows[2]]  # the second shape launches one kernel
    two = CheckSettings(rows=(256, 1024), head_dim=(64,), value_dim=(64,), sel_count=(8,))
    outcome, said = measure(fake_ncu(tmp_path, "\n".join([table, *rows, *second])), settings=two)
    assert isinstance(outcome, Ok)
    first, other = outcome.facts.shapes
    assert (first.shape.rows, len(first.kernels)) == (256, 2) and (other.shape.rows, len(other.kernels)) == (1024, 1)
    assert other.bytes_read == 1 and other.bytes_expected == 4 * EXPECTED
    assert len([line for line in said if "of the bytes expected" in line]) == 2
    job: Job = pickle.loads((tmp_path / "job").read_bytes())
    assert [shape.rows for shape in job.shapes] == [256, 1024]


def test_ncu_gets_the_job_and_leaves_the_clocks_alone(tmp_path: Path) -> None:
    """Caches are emptied, clocks are not touched, and the job is that backend on those shapes, on that card."""
    measure(fake_ncu(tmp_path, COUNTED))
    arguments = (tmp_path / "arguments").read_text().split()
    pairs = dict(pairwise(arguments))
    assert pairs["--clock-control"] == "none" and pairs["--cache-control"] == "all"
    assert pairs["--profile-from-start"] == "off" and pairs["--print-units"] == "base"
    assert pairs["--metrics"] == "dram__bytes_read.sum,dram__bytes_write.sum"
    assert arguments[-4:-1] == [sys.executable, "-m", "nsa.bench.dram.target"]
    job = pickle.loads((tmp_path / "job").read_bytes())
    assert job == Job("sdpa", tuple(stage.shapes(ONE_SHAPE)), ON_CUDA)


def test_denied_counters_are_a_failure_with_the_fix(tmp_path: Path) -> None:
    """The commonest fault, no right to read the counters, says how to get it; all that ncu said is in the log."""
    outcome, said = measure(fake_ncu(tmp_path, DENIED, status=1))
    assert isinstance(outcome, Failed) and "\n" not in outcome.reason
    assert outcome.reason.startswith("ncu failed: ERR_NVGPUCTRPERM - The user does not have permission")
    assert "NVreg_RestrictProfilingToAdminUsers=0" in outcome.fix
    assert any("==WARNING== No kernels were profiled." in line for line in said)


def test_denied_counters_are_seen_where_ncu_calls_it_a_success(tmp_path: Path) -> None:
    """A run that profiled nothing is a failure, not zero bytes."""
    outcome, _ = measure(fake_ncu(tmp_path, DENIED))
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("ncu profiled no kernel: ERR_NVGPUCTRPERM")
    assert "NVreg_RestrictProfilingToAdminUsers=0" in outcome.fix


def test_a_target_that_fails_says_why(tmp_path: Path) -> None:
    """The reason holds the last line of the program that was profiled."""
    says = "==PROF== Connected\n==ERROR== The application returned an error code (1).\n"
    complains = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    outcome, _ = measure(fake_ncu(tmp_path, says, 1, complains))
    assert isinstance(outcome, Failed)
    assert outcome.reason == (
        "ncu failed: The application returned an error code (1).; torch.OutOfMemoryError: CUDA out of memory."
    )
    assert "dram.ncu to skip" in outcome.fix


def test_a_program_that_cannot_be_run_is_a_failure(tmp_path: Path) -> None:
    """A wrapper left over from a removed toolkit is named."""
    program = tmp_path / "ncu"
    program.write_text("#!/absent/interpreter\n")
    program.chmod(0o755)
    outcome, _ = measure({"PATH": str(tmp_path)})
    assert isinstance(outcome, Failed)
    assert outcome.reason == f"{program} cannot be run (No such file or directory)"


def test_a_hanging_profiler_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This optional stage ends in its time."""
    environ = fake_ncu(tmp_path, COUNTED)
    (tmp_path / "ncu").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(profile_module, "TIMEOUT_S", 0.2)
    outcome, _ = measure({"PATH": environ["PATH"]})
    assert isinstance(outcome, Failed) and outcome.reason == "ncu did not end within 0.2 s"


@pytest.mark.parametrize(("mode", "kind"), [("auto", Skipped), ("require", Failed)])
def test_what_is_missing_is_named(mode: str, kind: type, tmp_path: Path) -> None:
    """A required count that cannot be made is a failure, an optional one is skipped; both say what is missing."""
    outcome, _ = measure({}, mode)
    assert isinstance(outcome, kind) and outcome.reason.startswith("no ncu in PATH, CUDA_HOME")
    assert "install Nsight Compute" in outcome.fix
    outcome, _ = measure(fake_ncu(tmp_path, COUNTED), mode, ON_CPU)
    assert isinstance(outcome, kind) and outcome.reason.startswith("no CUDA device")
    assert not (tmp_path / "job").exists()


def test_skip_runs_nothing(tmp_path: Path) -> None:
    """The setting holds where ncu is there, too."""
    outcome, _ = measure(fake_ncu(tmp_path, COUNTED), "skip")
    assert isinstance(outcome, Skipped) and outcome.reason == "dram.ncu is skip"
    assert not (tmp_path / "job").exists()


def test_an_unavailable_backend_is_not_profiled(tmp_path: Path) -> None:
    """No other backend's bytes are recorded under the name that was asked for."""
    guarded = replace(ON_CUDA, machine=Machine((8, 9)))
    outcome, said = measure(fake_ncu(tmp_path, COUNTED), host=guarded, backend="fa2")
    assert isinstance(outcome, Unavailable) and "8.9" in outcome.reason and outcome.fix
    assert said == [f"dram fa2: unavailable: {outcome.reason}"]
    assert not (tmp_path / "job").exists()


def test_a_backend_that_cannot_be_asked_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of a backend's own is its status, as in every stage that measures."""
    monkeypatch.setattr(sdpa, "require", lambda machine, flags: 1 // 0)
    outcome, _ = measure(fake_ncu(tmp_path, COUNTED))
    assert isinstance(outcome, Failed) and outcome.reason.startswith("sdpa: ZeroDivisionError: ")
    assert outcome.fix == "see results/logs/dram_sdpa.log, and fix the backend, or leave it out of candidates"


@pytest.mark.parametrize(("says", "status", "kind"), [(DENIED, 1, Failed), (COUNTED, 0, Ok)], ids=["denied", "counted"])
def test_the_record_is_on_disk_with_its_stamp(
    says: str, status: int, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is a header as JSON; a failure's fix says to delete it, as no stamp changes with what failed."""
    monkeypatch.setenv("PATH", os.pathsep.join([fake_ncu(tmp_path, says, status)["PATH"], os.environ["PATH"]]))
    settings = {"check": ONE_SHAPE.model_dump(mode="json"), "ncu": "auto"}
    inputs = stage_inputs(tmp_path, "dram/sdpa", settings, WITH_GPU)
    out = tmp_path / "results" / "dram_sdpa.json"
    stage.run("sdpa", *inputs, (), out)
    header = files.read_model(out, Header[DramFacts])
    assert (header.stage, header.backend, header.device) == ("dram", "sdpa", ON_CUDA.device)
    assert header.stamp == DIGESTS and header.provenance.environment.gpu_uuid == WITH_GPU.gpu_uuid
    assert isinstance(header.outcome, kind)
    if isinstance(header.outcome, Failed):
        assert header.outcome.fix.endswith(f"then delete {out} and run again")


@pytest.mark.gpu
def test_a_profile_on_a_gpu_counts_or_says_why_not() -> None:
    """Where ncu may read the counters, packed SDPA moves at least the expected bytes; elsewhere a reason is given."""
    host = Host.of("cuda", Flags(), probe(), {})
    outcome = stage.measure("sdpa", ONE_SHAPE, "auto", host, os.environ, print).outcome
    if isinstance(outcome, Ok):
        (shape,) = outcome.facts.shapes
        assert shape.ratio > 0.9 and shape.kernels
    else:
        assert outcome.reason and outcome.fix
