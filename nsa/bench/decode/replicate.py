"""One replicate of a decode cell: one process that builds the cell, proves it and times its arms interleaved."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import torch

from nsa.bench.decode.arms import ARMS
from nsa.bench.decode.cell import BLOCKS, Cell
from nsa.bench.decode.job import Job
from nsa.bench.decode.judge import judge
from nsa.bench.decode.kept import Kept
from nsa.bench.decode.routing_check import core_routing_fault, routing_fault
from nsa.bench.method.circumstances import circumstances
from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import Control
from nsa.bench.method.failures import device_at_work, guarded, guarded_core
from nsa.bench.method.interleave import Candidate, interleave
from nsa.bench.method.timing import CudaTimer, bandwidths, wall
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.errors import BackendUnavailable, InputError
from nsa.kernels import registry
from nsa.kernels.contract import Backend, SelectAttention
from nsa.kernels.core import Core
from nsa.machine.nvml import Sampler
from nsa.records.decode import DecodeFacts
from nsa.records.facts import LeftOut
from nsa.records.words import EMPTY, OTHER, Row

REFUSED = "change decode.dtype or decode.model to what the backend takes, or leave it out of candidates"


def replicate(job: Job, turn: Turn) -> Replicated[DecodeFacts]:
    """Run one replicate in this process.

    Raises:
        BackendUnavailable: the backend cannot run here, or refuses this cell.
        NoMemory: the cell does not fit.
        KernelFailed: the backend failed while it ran.
    """
    start = time.monotonic()
    backend = registry.load(job.backend, job.host.machine, job.host.flags)
    torch.set_num_threads(job.settings.cpu_threads)
    device = torch.device(job.host.device.kind)
    order = random.Random(f"{job.settings.seed}/{job.process}")
    try:
        with device_at_work(backend.name):
            cell = Cell(job.settings, job.S, *through(backend, device))
            own, others = variants_of(backend)
            refused = cell.take_variants(others) if device.type == "cuda" else {}
            finite, fault = cell.finite_when_poisoned(), routing(cell)
            columns = {**columns_of(job), "backend_resolved": backend.name}
            timer = CudaTimer(device) if device.type == "cuda" else None
            control = Control(timer).groups("arm", {**columns, "emits": None, "mode": "graph", "cache_state": "cold"})
            candidates, steps = _on_cuda(cell, order, columns, timer) if timer else _on_cpu(cell, columns)
            with turn, Sampler(job.host.device.uuid) as sampler:
                rates = [bandwidths(device)] if timer else []
                clock = Clock(sampler, timer.nudge) if timer else None
                rows = interleave([candidates, *control], job.settings.iters, BLOCKS, order, sampler, timer, clock)
                strangers = sampler.other_processes(turn.ours)
            finite &= all(kept.finite for kept in steps)
            judged = judge(cell, steps, job.process)
            # After the timing: a process that was profiled launches more slowly ever after.
            launches = {arm: dict(Counter(cell.launches(arm))) for arm in ARMS} if job.process == 0 else None
    except InputError as error:
        raise BackendUnavailable(job.backend, f"it refuses this cell: {error}", REFUSED) from error
    facts = DecodeFacts(
        contract="selection" if cell.core is None else "core",
        **circumstances(
            job.host.device, job.process, time.monotonic() - start - turn.waited_s, rows, clock, rates, strangers
        ),
        notes=registry.notes(backend),
        geometry=job.geometry,
        reads=cell.reads,
        bytes_read=cell.bytes_read,
        parts=cell.parts,
        variant=own,
        variants=tuple(cell.variants),
        left_out=tuple(LeftOut(name=name, shape=f"S={job.S}", reason=why) for name, why in refused.items()),
        emit_weight=cell.emit_weight,
        outputs_finite=finite,
        routing_fault=fault,
        judged=(judged,),
        launches=launches,
        off_unread=cell.off_unread,
    )
    return Replicated(rows, facts)


def through(backend: Backend, device: torch.device) -> tuple[SelectAttention | None, torch.device, Core | None]:
    """What the steps of a backend run through: its selection kernel, or its core where it offers that alone."""
    if backend.selection is None:
        return None, device, guarded_core(backend.name, backend.decode_core)
    return guarded(backend.name, backend.selection, whole=True), device, None


def routing(cell: Cell) -> str | None:
    """The first case in which the cell's routing does not choose the oracle's blocks."""
    if cell.core is None:
        return routing_fault(cell.device, cell.computed_by.select_blocks)
    return core_routing_fault(cell.core, cell.S, cell.settings.model, cell.x)


def variants_of(backend: Backend) -> tuple[str | None, dict[str, SelectAttention]]:
    """The name of a backend's own kernel among its variants, None where it has none, and the others, guarded."""
    own = next((name for name, kernel in backend.variants.items() if kernel is backend.selection), None)
    others = {name: kernel for name, kernel in backend.variants.items() if name != own}
    return own, {name: guarded(f"{backend.name}:{name}", kernel, whole=True) for name, kernel in others.items()}


def columns_of(job: Job) -> dict[str, str | int | float | bool | None]:
    """What is the same in every row of a replicate."""
    device = job.host.device
    return {
        **job.geometry.model_dump(),
        "device": device.kind,
        "device_name": device.name,
        "device_uuid": device.uuid,
        "backend_requested": job.backend,
        "process": job.process,
    }


def _on_cpu(cell: Cell, columns: Row) -> tuple[list[Candidate], list[Kept]]:
    steps = [Kept(cell, arm, emits) for emits in cell.steps for arm in ARMS]
    return [_eager(kept, columns) for kept in steps], steps


def _on_cuda(cell: Cell, order: random.Random, columns: Row, timer: CudaTimer) -> tuple[list[Candidate], list[Kept]]:
    """Every arm as a graph, cold and warm, and the whole step eagerly; and what of their steps is kept.

    With a variant the whole step is timed in all these modes, and its other arm in the primary one.

    The graphs are captured in random order: where a graph's memory lies moves its time by parts of a percent.
    """
    warmup = cell.settings.warmup
    candidates: list[Candidate] = []
    whole = ["all", *(f"all{OTHER}{name}" for name in cell.variants)]
    arms = [Kept(cell, arm, emits) for arm in cell.arms for emits in cell.steps]
    for kept in order.sample(arms, len(arms)):
        captured = timer.capture(partial(cell.restore, kept.emits), kept.run, warmup)
        kept.output = captured.output
        timing = partial(timer.time, kept.rewind, captured.graph.replay, after=kept.keep, touch=kept.touch)
        timed = _cold_and_warm(kept.name, kept.emits, timing, columns)
        candidates += timed if kept.name in (*ARMS, *whole) else timed[:1]
    empty = timer.capture_empty(warmup)
    candidates += _cold_and_warm(EMPTY, None, partial(timer.time, _nothing, empty.graph.replay), columns)
    eager = [Kept(cell, name, emits) for name in whole for emits in cell.steps]
    candidates += [_eager(kept, columns) for kept in eager]
    return candidates, arms + eager


def _cold_and_warm(
    arm: str, emits: bool | None, timing: Callable[[bool, int], list[int]], columns: Row
) -> list[Candidate]:
    return [
        Candidate(
            {**columns, "arm": arm, "emits": emits, "mode": "graph", "cache_state": "cold" if cold else "warm"},
            partial(timing, cold),
        )
        for cold in (True, False)
    ]


def _eager(kept: Kept, columns: Row) -> Candidate:
    """An arm by the wall clock, from warm caches; warmed up here. The last step of each block is kept."""
    cell = kept.cell
    wall(kept.run, cell.device, cell.settings.warmup, partial(cell.restore, kept.emits))
    names: Row = {"arm": kept.name, "emits": kept.emits, "mode": "eager", "cache_state": "warm"}

    def timing(repetitions: int) -> list[int]:
        values = wall(kept.run, cell.device, repetitions, kept.restore)
        kept.keep()
        return values

    return Candidate({**columns, **names}, timing)


def _nothing() -> None:
    pass
