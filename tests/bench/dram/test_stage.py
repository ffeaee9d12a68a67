"""The DRAM stage: every way it can end is a status with its reason, and the bytes expected are those of the tensors."""

from __future__ import annotations

import json
import pickle
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from nsa.bench.dram import profile as dram_counts
from nsa.bench.dram import stage as dram
from nsa.bench.method.inputs import full_case
from nsa.bench.method.shapes import CheckShape
from nsa.bench.method.reads import selected_by_tensors
from nsa.config import CheckSettings, Flags
from nsa.machine import ncu
from nsa.machine.host import Host, Machine
from nsa.records import files, parquet

GRID = CheckSettings()
ONE_SHAPE = CheckSettings(rows=(256,), head_dim=(64,), value_dim=(64,), sel_count=(8,))
ON_CPU = Host("cpu", "a CPU", None, Machine(None), Flags())
ON_CUDA = Host("cuda", "NVIDIA Synthetic", "GPU-of-a-test", Machine((9, 0)), Flags())
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
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which only the tests' ncu is to be found."""
    monkeypatch.setattr(ncu, "TOOLKIT", tmp_path / "absent")
    monkeypatch.setattr(ncu, "NSIGHT", tmp_path / "absent")


def measure(
    environ: dict[str, str], mode: str = "auto", host: Host = ON_CUDA, backend: str = "sdpa"
) -> tuple[dict[str, Any], list[str]]:
    """The record of one backend, and what was said meanwhile."""
    said: list[str] = []
    return dram.measure(backend, ONE_SHAPE, mode, host, environ, said.append), said


def test_the_largest_shapes_are_counted_and_no_more_than_four() -> None:
    """Breaks if the stage takes an hour, or counts only shapes that fit in L2."""
    sizes = [(s.rows, s.heads_per_group, s.head_dim, s.value_dim, s.sel_count) for s in dram.shapes(GRID)]
    assert sizes == [(256, 4, 64, 64, 8), (256, 4, 128, 128, 16), (1024, 4, 64, 64, 8), (1024, 4, 128, 128, 16)]
    assert {shape.dtype for shape in dram.shapes(GRID)} == {"bfloat16"}
    assert len(dram.shapes(replace(GRID, rows=(16, 64, 256, 1024)))) == 4
    assert len(dram.shapes(ONE_SHAPE)) == 1


def test_expected_bytes_by_hand() -> None:
    """Breaks if a tensor is left out: every ratio in the report would be off by it."""
    (shape,) = dram.shapes(ONE_SHAPE)
    keys_and_values = 256 * 8 * 64 * (64 + 64) * 2  # rows, blocks, tokens, D + Dv, bytes of a bfloat16
    queries_and_outputs = 256 * 4 * (64 + 64) * 2
    indices, lengths = 256 * 8 * 4, 64 * 4
    assert keys_and_values + queries_and_outputs + indices + lengths == EXPECTED
    assert dram.expected_bytes(shape) == EXPECTED


@pytest.mark.parametrize(("context", "sel_count"), [(512, 4), (500, 4), (200, 8)])
def test_expected_bytes_are_those_of_the_tensors(context: int, sel_count: int) -> None:
    """Breaks if the closed form forgets the partial last block, or a context of fewer blocks than are selected."""
    shape = CheckShape(8, 4, 32, 64, sel_count, 64, context, 4, "float16")
    call = full_case(shape, 0, torch.device("cpu"))
    tokens = int(selected_by_tensors(call.block_indices, call.seq_lens, call.block_size).sum())
    outputs = call.q.numel() // 32 * 64 * 2
    given = sum(tensor.nbytes for tensor in (call.q, call.block_indices, call.seq_lens))
    assert dram.expected_bytes(shape) == tokens * (32 + 64) * 2 + given + outputs


def test_what_ncu_counted_is_recorded_kernel_by_kernel(tmp_path: Path) -> None:
    """Breaks if a kernel of several is lost, or read and written are swapped."""
    facts, _ = measure(fake_ncu(tmp_path, COUNTED))
    assert (facts["status"], facts["reason"], facts["ncu"]) == ("ok", None, str(tmp_path / "ncu"))
    (shape,) = facts["shapes"]
    assert (shape["rows"], shape["head_dim"], shape["sel_count"]) == (256, 64, 8)
    assert (shape["bytes_read"], shape["bytes_written"]) == (67_500_000, 33_004_096)
    assert shape["bytes_counted"] == 100_504_096 and shape["bytes_expected"] == EXPECTED
    assert shape["ratio"] == pytest.approx(100_504_096 / EXPECTED)
    assert [kernel["name"] for kernel in shape["kernels"]] == ["vectorized_gather_kernel", "fmha_cutlassF"]


def test_ncu_gets_the_job_and_leaves_the_clocks_alone(tmp_path: Path) -> None:
    """Breaks if warming up is profiled too, a cache is left full, or another backend or shape is run."""
    environ = fake_ncu(tmp_path, COUNTED)
    measure(environ)
    arguments = (tmp_path / "arguments").read_text().split()
    pairs = dict(pairwise(arguments))
    assert pairs["--clock-control"] == "none" and pairs["--cache-control"] == "all"
    assert pairs["--profile-from-start"] == "off" and pairs["--print-units"] == "base"
    assert pairs["--metrics"] == "dram__bytes_read.sum,dram__bytes_write.sum"
    assert arguments[-4:-1] == [sys.executable, "-m", "nsa.bench.dram.target"]
    job = pickle.loads((tmp_path / "job").read_bytes())
    assert job == dram.Job("sdpa", dram.shapes(ONE_SHAPE)[0], ON_CUDA)


def test_denied_counters_are_a_status_with_the_mend(tmp_path: Path) -> None:
    """Breaks if the commonest fault of all, no right to read the counters, stops the pipeline or says no way out."""
    facts, said = measure(fake_ncu(tmp_path, DENIED, status=1))
    assert (facts["status"], facts["shapes"]) == ("failed", [])
    assert facts["reason"].startswith("ncu failed: ERR_NVGPUCTRPERM - The user does not have permission")
    assert "NVreg_RestrictProfilingToAdminUsers=0" in facts["fix"] and "\n" not in facts["reason"]
    assert any("==WARNING== No kernels were profiled." in line for line in said)  # all of it is in the log


def test_denied_counters_are_seen_where_ncu_calls_it_a_success(tmp_path: Path) -> None:
    """Breaks if a run that profiled nothing counts as zero bytes."""
    facts, _ = measure(fake_ncu(tmp_path, DENIED))
    assert facts["status"] == "failed"
    assert facts["reason"].startswith("ncu profiled no kernel: ERR_NVGPUCTRPERM")
    assert "NVreg_RestrictProfilingToAdminUsers=0" in facts["fix"]


def test_a_target_that_fails_says_why(tmp_path: Path) -> None:
    """Breaks if the record blames ncu for a kernel that does not run."""
    says = "==PROF== Connected\n==ERROR== The application returned an error code (1).\n"
    complains = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory.\n"
    facts, _ = measure(fake_ncu(tmp_path, says, 1, complains))
    assert facts["status"] == "failed"
    assert facts["reason"] == (
        "ncu failed: The application returned an error code (1).; torch.OutOfMemoryError: CUDA out of memory."
    )
    assert "dram.ncu to skip" in facts["fix"]


def test_a_program_that_cannot_be_run_is_a_status(tmp_path: Path) -> None:
    """Breaks if a wrapper left over from a removed toolkit ends in a traceback."""
    program = tmp_path / "ncu"
    program.write_text("#!/absent/interpreter\n")
    program.chmod(0o755)
    facts, _ = measure({"PATH": str(tmp_path)})
    assert (facts["status"], facts["reason"]) == ("failed", f"{program} cannot be run (No such file or directory)")


def test_a_hanging_profiler_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if an optional stage can hold up the report for ever."""
    environ = fake_ncu(tmp_path, COUNTED)
    (tmp_path / "ncu").write_text("#!/bin/sh\nexec sleep 60\n")
    monkeypatch.setattr(dram_counts, "TIMEOUT_S", 0.2)
    facts, _ = measure({"PATH": environ["PATH"]})
    assert (facts["status"], facts["reason"]) == ("failed", "ncu did not end within 0.2 s")


@pytest.mark.parametrize(("mode", "status"), [("auto", "skipped"), ("require", "failed")])
def test_what_is_missing_is_named(mode: str, status: str, tmp_path: Path) -> None:
    """Breaks if a required count that did not happen passes, or an optional one is called a failure."""
    facts, _ = measure({}, mode)
    assert facts["status"] == status and facts["reason"].startswith("no ncu in PATH, CUDA_HOME")
    assert "install Nsight Compute" in facts["fix"] and facts["ncu"] is None
    facts, _ = measure(fake_ncu(tmp_path, COUNTED), mode, ON_CPU)
    assert facts["status"] == status and facts["reason"].startswith("no CUDA device")
    assert not (tmp_path / "job").exists()


def test_skip_runs_nothing(tmp_path: Path) -> None:
    """Breaks if the setting is ignored where ncu is there."""
    facts, _ = measure(fake_ncu(tmp_path, COUNTED), "skip")
    assert (facts["status"], facts["reason"], facts["shapes"]) == ("skipped", "dram.ncu is skip", [])
    assert not (tmp_path / "job").exists()


def test_an_unavailable_backend_is_not_profiled(tmp_path: Path) -> None:
    """Breaks if another backend's bytes are recorded under the name that was asked for."""
    guarded = replace(ON_CUDA, machine=Machine((8, 9)))
    facts, _ = measure(fake_ncu(tmp_path, COUNTED), host=guarded, backend="triton")
    assert (facts["status"], facts["shapes"]) == ("unavailable", [])
    assert "8.9" in facts["reason"] and facts["fix"]
    assert not (tmp_path / "job").exists()


def test_the_record_is_on_disk_with_its_stamp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the report cannot tell an old count from one of today, or a fixed failure stays for ever."""
    monkeypatch.setenv("PATH", fake_ncu(tmp_path, DENIED, status=1)["PATH"])
    environment, out = tmp_path / "environment.json", tmp_path / "results" / "dram_sdpa.json"
    seen = {"cuda": True, "device": "NVIDIA Synthetic", "gpu_uuid": "GPU-of-a-test", "capability": [9, 0]}
    environment.write_text(json.dumps(seen))
    settings = {"check": {"rows": [256], "groups": 4}, "device": "auto", "flags": {}, "ncu": "auto"}
    digests = {"sources": {"digest": "s"}, "settings_digest": "c", "machine_digest": "m"}
    dram.run("sdpa", {"settings": settings, **digests}, environment, (), out)
    record = files.read_json(out)
    assert (record["schema_version"], record["stage"], record["backend"]) == (parquet.SCHEMA_VERSION, "dram", "sdpa")
    assert record["stamp"] == {"sources": "s", "settings": "c", "machine": "m"}
    assert record["provenance"]["environment"] == seen
    assert record["status"] == "failed" and record["fix"].endswith(f"then delete {out} and run again")
