"""The decode stage: rows and facts of a cell, and statuses instead of substitutes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nsa.bench.decode import replicate
from nsa.bench.decode import stage as decode
from nsa.bench.decode.arms import ARMS
from nsa.config import DecodeSettings, Flags
from nsa.errors import ConfigError, InputError, KernelFailed
from nsa.machine.environment import probe
from nsa.machine.host import Host, Machine
from nsa.records import parquet, schemas

SETTINGS = DecodeSettings(iters=5, warmup=1, processes=2)
ON_CPU = Host("cpu", "a CPU", None, Machine(None), Flags())


def test_a_cell_times_every_arm_in_every_process(tmp_path: Path) -> None:
    """Breaks if an arm, a process or a repetition is dropped, or if what ran is not what was requested."""
    said: list[str] = []
    rows, facts = decode.measure("sdpa", 100, SETTINGS, ON_CPU, said.append)
    assert len(rows) == 2 * 2 * len(ARMS) * SETTINGS.iters  # processes, emitting or not, arms
    assert {row["process"] for row in rows} == {0, 1}
    assert {(row["backend_requested"], row["backend_resolved"]) for row in rows} == {("sdpa", "sdpa")}
    assert all(row["value_ns"] > 0 and row["mode"] == "eager" and row["device"] == "cpu" for row in rows)
    blocks = [[row["arm"] for row in rows if row["process"] == 0 and row["block"] == b] for b in (0, 1)]
    assert blocks[0] != blocks[1]  # randomised anew in each block
    assert facts["status"] == "ok" and facts["outputs_finite"]
    assert facts["reads"]["actual"] == facts["reads"]["expected"] == 5 + 100 + 100
    assert set(facts["launches"]) == set(ARMS)
    assert len(said) == 2
    parquet.write(tmp_path / "cell.parquet", rows, schemas.REPETITIONS, facts)
    table, read = parquet.read(tmp_path / "cell.parquet", schemas.REPETITIONS)
    assert table.num_rows == len(rows) and read["reads"] == facts["reads"]


def test_a_kernel_that_fails_or_kills_its_process_is_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if one crashing kernel takes the report with it, or if its cell counts as measured."""

    def illegal(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")

    monkeypatch.setattr(replicate, "Cell", illegal)
    with pytest.raises(KernelFailed, match=r"^CUDA error: an illegal memory access was encountered$"):
        replicate.replicate(replicate.Job("sdpa", 100, SETTINGS, ON_CPU, 0))

    def dies(*_: object, **__: object) -> None:
        raise KernelFailed("its process died while it ran")

    monkeypatch.setattr(decode, "in_fresh_process", dies)
    rows, facts = decode.measure("sdpa", 100, SETTINGS, ON_CPU, lambda line: None)
    assert rows == [] and facts["status"] == "failed" and "compute-sanitizer" in facts["fix"]


@pytest.mark.parametrize("backend", ["cuda", "triton", "fa2"])
def test_an_unavailable_backend_is_a_status_and_nothing_runs_instead(backend: str) -> None:
    """Breaks if another backend runs under the name that was asked for."""
    rows, facts = decode.measure(backend, 100, SETTINGS, ON_CPU, lambda line: None)
    assert rows == [] and facts["status"] == "unavailable"
    assert facts["reason"] and facts["fix"] and facts["reads"] is None


def test_out_of_memory_is_a_status_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if one cell out of memory stops the others."""

    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB\nmore lines")

    monkeypatch.setattr(replicate, "Cell", full)
    found = replicate.replicate(replicate.Job("sdpa", 100, SETTINGS, ON_CPU, 0))
    assert found.rows == []
    assert found.facts["status"] == "oom" and "decode.batch" in found.facts["fix"]
    assert found.facts["reason"] == "CUDA out of memory. Tried to allocate 9 GiB"


def test_a_cell_that_the_backend_refuses_is_a_status_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if one dtype that a kernel does not take stops the pipeline, or another kernel runs instead."""

    def refuses(*_: object) -> None:
        raise InputError("q, k, v: got float32, expected float16 or bfloat16")

    monkeypatch.setattr(replicate, "Cell", refuses)
    found = replicate.replicate(replicate.Job("sdpa", 100, SETTINGS, ON_CPU, 0))
    assert found.facts["status"] == "unavailable" and "got float32" in found.facts["reason"]


def test_the_device_is_never_substituted() -> None:
    """Breaks if a run that asked for CUDA is timed on a CPU."""
    nowhere = {**probe(), "cuda": False, "capability": None}
    assert Host.of("auto", Flags(), nowhere, {}).device == "cpu"
    with pytest.raises(ConfigError, match="device: got 'cuda', expected 'cpu' or 'auto'"):
        Host.of("cuda", Flags(), nowhere, {})
    ada = {**nowhere, "cuda": True, "device": "RTX 4090", "gpu_uuid": "GPU-1", "capability": [8, 9]}
    assert Host.of("auto", Flags(), ada, {}).machine.capability == (8, 9)
    assert Host.of("cpu", Flags(), ada, {}).machine.capability is None  # asked for the CPU: the GPU is not there


@pytest.mark.gpu
def test_a_cell_on_a_gpu_times_graphs_cold_and_warm() -> None:
    """Breaks if a mode is missing, an arm's kernels run although it is off, or a graph costs the host's time."""
    host = Host.of("cuda", Flags(), probe(), {})
    rows, facts = decode.measure("sdpa", 1024, replace(SETTINGS, processes=1), host, print)
    modes = {(row["arm"], row["mode"], row["cache_state"]) for row in rows}
    graphs = {(arm, "graph", state) for arm in (*ARMS, "empty") for state in ("cold", "warm")}
    assert modes == graphs | {("all", "eager", "warm")}
    assert facts["outputs_finite"] and facts["bandwidth_bytes_per_s"] > 1e11
    assert len(facts["launches"]["none"]) < 25  # nothing is made anew in each step, tables of angles for instance
    assert set(facts["launches"]["none"]) < set(facts["launches"]["all"])
    typical = sorted(row["value_ns"] for row in rows if row["arm"] == "all" and row["cache_state"] == "cold")
    assert typical[len(typical) // 2] < 5.1e6 / 20  # the system it replaces: 5.1 to 5.9 ms a step on any GPU
