"""The decode stage: rows and facts of a cell, and outcomes instead of substitutes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from nsa.bench.decode import replicate as module
from nsa.bench.decode.job import Job
from nsa.bench.decode.replicate import replicate
from nsa.bench.decode.stage import measure, memory_bytes
from nsa.bench.workers import Turn
from nsa.config import DecodeSettings, Flags
from nsa.errors import BackendUnavailable, ConfigError, InputError, KernelFailed, NoMemory
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather
from nsa.machine.environment import probe
from nsa.machine.host import Host, Machine
from nsa.records.facts import Device
from nsa.records.outcome import Ok, Unavailable
from nsa.records.words import ARMS, CONTROLS, EMPTY
from nsa.shapes import NsaShape

SETTINGS = DecodeSettings(iters=5, warmup=1, processes=2)
ON_CPU = Host(Device(kind="cpu", name="a CPU", uuid=None), Machine(None), Flags())


def test_a_cell_times_every_arm_in_every_process() -> None:
    """No arm, process or repetition is missing, and what ran is what was requested."""
    said: list[str] = []
    result = measure("sdpa", 100, SETTINGS, ON_CPU, said.append)
    rows, outcome = result.rows, result.outcome
    assert isinstance(outcome, Ok)
    assert len(rows) == 2 * 2 * len(ARMS) * SETTINGS.iters  # processes, emitting or not, arms
    assert {row["process"] for row in rows} == {0, 1}
    assert {(row["backend_requested"], row["backend_resolved"]) for row in rows} == {("sdpa", "sdpa")}
    assert all(row["mode"] == "eager" and row["device"] == "cpu" for row in rows)
    assert all(isinstance(row["value_ns"], int) and row["value_ns"] > 0 for row in rows)
    blocks = [[row["arm"] for row in rows if row["process"] == 0 and row["block"] == b] for b in (0, 1)]
    assert blocks[0] != blocks[1]  # randomised anew in each block
    facts = outcome.facts
    assert facts.outputs_finite and facts.routing_fault is None and facts.flush == "none"
    assert facts.reads.actual == facts.reads.expected == 5 + 100 + 100
    assert facts.launches is not None and set(facts.launches) == set(ARMS)
    assert [replicate.process for replicate in facts.replicates] == [0, 1]
    assert facts.geometry.S == 100 and facts.geometry.dtype == "float32"
    assert said[-1].startswith("decode sdpa S=100: 2 of 2 processes")


def on_cpu(kernel: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job whose backend has this kernel."""
    monkeypatch.setattr(registry, "load", lambda name, machine, flags: Backend(name, kernel))
    return Job("sdpa", 100, SETTINGS, ON_CPU, 0)


class CompilationError(Exception):
    """As Triton has it: no RuntimeError."""


@pytest.mark.parametrize(
    ("raised", "expected", "match"),
    [
        (
            torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines"),
            KernelFailed,
            "^sdpa: AcceleratorError: CUDA error: an illegal memory access was encountered$",
        ),
        (CompilationError("at 3:1:\nptxas fatal"), KernelFailed, "^sdpa: CompilationError: at 3:1:$"),
        (PermissionError("TRITON_CACHE_DIR"), KernelFailed, "^sdpa: PermissionError: TRITON_CACHE_DIR$"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried\nmore"), NoMemory, "^CUDA out of memory. Tried$"),
        (InputError("q: got float32"), BackendUnavailable, "it refuses this cell: q: got float32"),
    ],
    ids=["on the device", "compiler", "cache folder", "memory", "refusal"],
)
def test_whatever_a_kernel_raises_is_its_backends_failure(
    raised: Exception, expected: type[Exception], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiler's error, which is no RuntimeError, is a status like a crash, with its first line."""

    def fails(*_: object) -> torch.Tensor:
        raise raised

    with pytest.raises(expected, match=match):
        replicate(on_cpu(fails, monkeypatch), Turn())


@pytest.mark.parametrize("error", [KeyError("emits"), RuntimeError("The size of tensor a must match")])
def test_a_fault_of_the_harness_is_no_backends(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cell's own code raises is not recorded as a failure of the kernel."""

    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(module, "routing_fault", broken)
    with pytest.raises(type(error), match=str(error.args[0])):
        replicate(on_cpu(gather, monkeypatch), Turn())


@pytest.mark.parametrize("backend", ["cuda", "triton", "fa2"])
def test_an_unavailable_backend_is_an_outcome_and_nothing_runs_instead(backend: str) -> None:
    """No other backend runs under the name that was asked for."""
    result = measure(backend, 100, SETTINGS, ON_CPU, print)
    assert isinstance(result.outcome, Unavailable) and result.rows == ()
    assert result.outcome.reason and result.outcome.fix


def test_the_device_is_never_substituted() -> None:
    """A run that asked for CUDA is not timed on a CPU."""
    nowhere = probe().model_copy(update={"cuda": False, "capability": None})
    assert Host.of("auto", Flags(), nowhere, {}).device.kind == "cpu"
    with pytest.raises(ConfigError, match="device: got 'cuda', expected 'cpu' or 'auto'"):
        Host.of("cuda", Flags(), nowhere, {})
    gpu = {"cuda": True, "device": "RTX 4090", "gpu_uuid": "GPU-1", "capability": (8, 9)}
    ada = nowhere.model_copy(update=gpu)
    assert Host.of("auto", Flags(), ada, {}).machine.capability == (8, 9)
    assert Host.of("cpu", Flags(), ada, {}).machine.capability is None  # asked for the CPU: the GPU is not there


def test_memory_grows_with_what_is_held() -> None:
    """The estimate by which waves are made covers the caches."""
    paper = DecodeSettings(model=NsaShape(dim=4096, heads=64, groups=4, head_dim=128, value_dim=128), batch=32)
    caches = 3 * 32 * 4 * 65536 * 256 * 2
    assert caches < memory_bytes(paper, 65536, "cuda") < 3 * caches


@pytest.mark.gpu
def test_a_cell_on_a_gpu_times_graphs_cold_and_warm(tmp_path: Path) -> None:
    """Every mode is timed, an arm that is off launches less, and a graph does not cost the host's time."""
    host = Host.of("cuda", Flags(), probe(), {})
    result = measure("sdpa", 1024, SETTINGS, host, print)
    assert isinstance(result.outcome, Ok)
    facts = result.outcome.facts
    modes = {(row["arm"], row["mode"], row["cache_state"]) for row in result.rows}
    graphs = {(arm, "graph", state) for arm in (*ARMS, EMPTY) for state in ("cold", "warm")}
    others = [f"{arm}@{name}" for name in ("index_select", "blocks", "varlen") for arm in ("all", "sel")]
    graphs |= {(arm, "graph", "cold") for arm in (*others, "all@torch parts", *CONTROLS)}
    whole = {"all", *(name for name in others if name.startswith("all"))}
    graphs |= {(arm, "graph", "warm") for arm in whole}
    assert modes == graphs | {(arm, "eager", "warm") for arm in whole}
    assert (facts.parts, facts.variant, facts.left_out) == ("triton", "gather", ())
    assert facts.outputs_finite and min(facts.bandwidth_bytes_per_s) > 1e11 and facts.other_processes == ()
    assert facts.launches is not None
    assert sum(facts.launches["none"].values()) < 25  # nothing is made anew in each step, tables of angles for instance
    assert set(facts.launches["none"]) < set(facts.launches["all"])
    typical = sorted(row["value_ns"] for row in result.rows if row["arm"] == "all" and row["cache_state"] == "cold")
    assert typical[len(typical) // 2] < 5.1e6 / 20  # the system it replaces: 5.1 to 5.9 ms a step on any GPU
