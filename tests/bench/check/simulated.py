"""A backend's kernel check on a CPU that stands in for a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from standins import CPU, ON_CUDA, Sampler, Timer

from nsa.bench.check import correctness
from nsa.bench.check import replicate as module
from nsa.bench.check.job import Job
from nsa.bench.check.replicate import check_kernel
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.records.facts import CheckFacts
from nsa.records.words import Row

SMALL = CheckSettings(
    rows=(4,),
    heads_per_group=(2,),
    head_dim=(32,),
    value_dim=(32, 64),
    sel_count=(3,),
    sel_block=16,
    groups=2,
    context=60,
    dtype=DtypeByDevice(cuda="float32", cpu="float32"),
    seeds=2,
    iters=4,
    processes=2,
    cpu_rows=4,
    cpu_context=60,
)
RIVALS = {"sdpa:gather": gather, "sdpa:index_select": index_select}
KERNELS = ("cuda", *RIVALS)
SHAPES = 2


def mine(*arguments: Any) -> torch.Tensor:
    """A right kernel that launches something else than packed SDPA does."""
    return gather(*arguments) * 1


def simulate(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU in the place of ON_CUDA's GPU."""
    monkeypatch.setattr(module, "CudaTimer", Timer)
    monkeypatch.setattr(module, "Sampler", Sampler)
    monkeypatch.setattr(module, "bandwidths", lambda device: (4e12, 3.8e12))
    for place, case in ((module, full_case), (module, ragged_case), (correctness, ragged_case)):
        on_cpu: Callable[..., object] = lambda shape, seed, device, case=case: case(shape, seed, CPU)
        monkeypatch.setattr(place, case.__name__, on_cpu)


def checked(
    kernel: Callable[..., torch.Tensor] = mine, process: int = 0, of: int = 1, turn: Turn | None = None, **changes: Any
) -> Replicated[CheckFacts]:
    """What one replicate on the stand-in for a GPU finds of a kernel."""
    options: dict[str, Any] = {"rivals": RIVALS, "packs": False, "host": ON_CUDA, "seed": 0} | changes
    job = Job("cuda", SMALL, options["host"], process, of, options["seed"])
    return check_kernel(Backend("cuda", kernel), options["rivals"], job, turn or Turn(), options["packs"])


def judged(rows: list[Row]) -> list[Row]:
    """The rows that judge an output, timed or not."""
    return [row for row in rows if row.get("value_ns") is None]


def timed(rows: list[Row]) -> list[Row]:
    """The rows that have a time."""
    return [row for row in rows if row.get("value_ns") is not None]
