"""One replicate of a decode cell: one process that builds the cell, proves it and times its arms interleaved."""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from nsa.bench.decode.arms import ARMS, EMPTY
from nsa.bench.decode.cell import Cell
from nsa.bench.decode.routing_check import routing_fault
from nsa.bench.method.timing import CudaTimer, copy_bandwidth, wall
from nsa.bench.runner import out_of_memory
from nsa.config import DecodeSettings
from nsa.errors import InputError, KernelFailed
from nsa.kernels import registry
from nsa.machine.host import Host
from nsa.machine.nvml import Sampler

BLOCKS = 4  # randomised blocks that the repetitions of an arm are spread over


@dataclass(frozen=True)
class Job:
    """What one replicate measures."""

    backend: str
    S: int
    settings: DecodeSettings
    host: Host
    process: int


@dataclass
class Replicate:
    """What one replicate found: a row per repetition, and what holds for the cell."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """One thing to time: its place in the record, and how to restore and repeat it."""

    arm: str
    emits: bool
    mode: str
    cache_state: str
    time: Callable[[int], list[int]]  # repetitions -> nanoseconds of each


def replicate(job: Job) -> Replicate:
    """Run one replicate in this process; out of memory and a refused shape are statuses with reasons, not faults.

    Raises:
        BackendUnavailable: the backend cannot run here.
        KernelFailed: it failed while it ran.
    """
    backend = registry.load(job.backend, job.host.machine, job.host.flags)
    device = torch.device(job.host.device)
    torch.set_num_threads(job.settings.cpu_threads)
    try:
        cell = Cell(job.settings, job.S, backend.select_attention, device)
        found = _measure(cell, job, backend.name)
        found.facts["notes"] = backend.notes()
        return found
    except InputError as error:
        fix = "change decode.dtype or decode.model to what the backend takes, or leave it out of candidates"
        return Replicate(facts={"status": "unavailable", "reason": f"it refuses this cell: {error}", "fix": fix})
    except RuntimeError as error:  # what torch, Triton and the extension raise for a kernel that fails on the device
        if out_of_memory(error):
            fix = "lower decode.batch, the model's sizes or S"
            return Replicate(facts={"status": "oom", "reason": str(error).splitlines()[0], "fix": fix})
        traceback.print_exc()  # into the job's log
        raise KernelFailed(str(error).splitlines()[0]) from error


def _measure(cell: Cell, job: Job, resolved: str) -> Replicate:
    order = random.Random(f"{job.settings.seed}/{job.process}")
    facts: dict[str, Any] = {
        "status": "ok",
        "reason": None,
        "reads": cell.reads,
        "bytes_read": cell.bytes_read,
        "bytes_weights": cell.bytes_weights,
        "emit_weight": cell.emit_weight,
        "outputs_finite": cell.finite_when_poisoned(),
        "routing_fault": routing_fault(cell.device),
    }
    if job.process == 0:
        facts["launches"] = {name: cell.launches(name) for name in ARMS}
    if cell.device.type == "cuda":
        facts["bandwidth_bytes_per_s"] = copy_bandwidth(cell.device)
        timed, outputs = _on_cuda(cell, order)
    else:
        timed, outputs = list(_on_cpu(cell)), []
    for output in outputs:
        output.fill_(torch.nan)  # what is checked below was written by the timed replays
    rows, facts["other_processes"] = _interleave(timed, job, resolved, order)
    facts["outputs_finite"] &= all(bool(output.isfinite().all()) for output in outputs)
    return Replicate(rows, facts)


def _interleave(
    timed: list[Timed], job: Job, resolved: str, order: random.Random
) -> tuple[list[dict[str, Any]], list[int]]:
    """Time everything in randomised blocks, so that drift falls on all arms alike; no sample is dropped.

    Returns the rows, and the processes that were on the GPU beside this one.
    """
    rows: list[dict[str, Any]] = []
    others: set[int] = set()
    iters, blocks = job.settings.iters, min(BLOCKS, job.settings.iters)
    with Sampler(job.host.device_uuid) as sampler:
        for block in range(blocks):
            repetitions = iters // blocks + (block < iters % blocks)
            for place, item in enumerate(order.sample(timed, len(timed))):
                values = item.time(repetitions)
                rows += [
                    {
                        "arm": item.arm,
                        "emits": item.emits,
                        "backend_requested": job.backend,
                        "backend_resolved": resolved,
                        "mode": item.mode,
                        "cache_state": item.cache_state,
                        "process": job.process,
                        "block": block,
                        "order": place,
                        "value_ns": value,
                    }
                    for value in values
                ]
            others.update(sampler.other_processes())
            state = sampler.sample()
            for row in rows[-len(timed) * repetitions :]:
                row.update(state)
    return rows, sorted(others)


def _on_cpu(cell: Cell) -> Iterator[Timed]:
    for emits in cell.steps:
        for name in ARMS:
            run, restore = partial(cell.step, name, emits), partial(cell.restore, emits)
            wall(run, cell.device, cell.settings.warmup, restore)
            yield Timed(name, emits, "eager", "warm", partial(_wall, cell, run, restore))


def _on_cuda(cell: Cell, order: random.Random) -> tuple[list[Timed], list[torch.Tensor]]:
    """Every arm as its own captured graph, cold and warm, the empty graph, and the full step's eager wall time.

    Graphs are captured in random order: where a graph's memory lies moves its time by parts of a percent, and this
    must differ between processes, not between arms.
    """
    timer, timed, outputs = CudaTimer(cell.device), [], []
    graphs = [(name, emits) for name in ARMS for emits in cell.steps]
    for name, emits in order.sample(graphs, len(graphs)):
        restore, run = partial(cell.restore, emits), partial(_output, cell, name, emits)
        captured = timer.capture(restore, run, cell.settings.warmup)
        outputs.append(captured.output)
        timed += _cold_and_warm(name, emits, partial(timer.time, partial(cell.rewind, emits), captured.graph.replay))
    for emits in cell.steps:
        restore, run = partial(cell.restore, emits), partial(_output, cell, "all", emits)
        wall(run, cell.device, cell.settings.warmup, restore)
        timed.append(Timed("all", emits, "eager", "warm", partial(_wall, cell, run, restore)))
    empty = timer.capture_empty(cell.settings.warmup)
    timed += _cold_and_warm(EMPTY, next(iter(cell.steps)), partial(timer.time, lambda: None, empty.graph.replay))
    return timed, outputs


def _cold_and_warm(arm: str, emits: bool, time: Callable[[bool, int], list[int]]) -> list[Timed]:
    return [Timed(arm, emits, "graph", "cold" if cold else "warm", partial(time, cold)) for cold in (True, False)]


def _output(cell: Cell, name: str, emits: bool) -> torch.Tensor:
    return cell.step(name, emits).output


def _wall(cell: Cell, run: Callable[[], object], restore: Callable[[], None], repetitions: int) -> list[int]:
    return wall(run, cell.device, repetitions, restore)
