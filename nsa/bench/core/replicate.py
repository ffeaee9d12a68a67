"""One replicate of the core check: a core, the composed core and dense attention on the same inputs, interleaved."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from nsa.attention.composition import compose
from nsa.bench.apart import peer
from nsa.bench.apart.process import CandidateProcess
from nsa.bench.core import dense
from nsa.bench.core.candidate import CoreCandidate
from nsa.bench.core.corners import corner_rows
from nsa.bench.core.job import Job
from nsa.bench.core.remote import RemoteCore
from nsa.bench.core.replays import CHANGED
from nsa.bench.core.shape import BLOCKS, Run, shape_rows
from nsa.bench.method import switches
from nsa.bench.method.circumstances import circumstances
from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import Control
from nsa.bench.method.failures import device_at_work
from nsa.bench.method.timing import CudaTimer, bandwidths
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CoreSettings, Flags
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather
from nsa.machine.host import Machine
from nsa.machine.nvml import Sampler
from nsa.records.facts import CoreBurst, CoreFacts, LeftOut
from nsa.records.grids import core_grid
from nsa.records.words import COMPOSED, DENSE, EVERY_SHAPE, ITEM_BYTES, Row

FURTHER_BYTES = 1 << 24  # gates, lengths, blocks, and what lies between tensors

Loader = Callable[[torch.device, bool], peer.Channel]  # of a device, and whether the core is timed there


def check_here(job: Job, turn: Turn) -> Replicated[CoreFacts]:
    """Check the job's core in this process; raises as nsa.bench.apart.worker.replicate does."""
    return check(job, turn, lambda *where: here(job, lambda: registry.load(job.backend, *_machine(job)), *where))


def check_core(job: Job, turn: Turn, backend: Backend) -> Replicated[CoreFacts]:
    """Check one backend's core in this process."""
    return check(job, turn, lambda *where: here(job, lambda: backend, *where))


def check_there(job: Job, turn: Turn, process: CandidateProcess) -> Replicated[CoreFacts]:
    """The same, with the core in the candidate's process."""

    def load(device: torch.device, timed: bool) -> peer.Channel:
        peer.load(process, *_machine(job), device, timed)
        return process

    return check(job, turn, load, ready=process.ready)


def here(job: Job, load: Callable[[], Backend], device: torch.device, timed: bool) -> peer.Channel:
    """A backend that is loaded in this process."""
    server = CoreCandidate()
    server.take(job.backend, load, device, timed)
    return peer.Here(server)


def check(job: Job, turn: Turn, load: Loader, ready: Callable[[], object] = lambda: None) -> Replicated[CoreFacts]:
    """Check one core: the captured call on unseen inputs, the timed calls, and corner cases.

    Args:
        job: on what, and in which process.
        turn: the process's right to the GPU.
        load: the candidate.
        ready: waits until nothing else of this replicate is at work; called before anything is timed.
    """
    start, kind = time.monotonic(), job.host.device.kind
    on_cuda, rows, rates, others = kind == "cuda", list[Row](), list[tuple[float, float]](), set[int]()
    found, absent = dense.kernels() if on_cuda and not job.timed_only else ({}, {})
    left_out = [LeftOut(name=f"{DENSE}{name}", shape=EVERY_SHAPE, reason=why) for name, why in absent.items()]
    seen, bursts = switches.read(), list[CoreBurst]()
    with device_at_work(COMPOSED if job.apart else job.backend), Sampler(job.host.device.uuid) as sampler:
        timer = CudaTimer(torch.device(kind)) if on_cuda else None
        device = timer.device if timer else torch.device(kind)
        clock = Clock(sampler, timer.nudge) if timer else None
        ready()
        if on_cuda:
            with turn:
                rates.append(bandwidths(device))
        channel = load(device, on_cuda)
        reserve = FURTHER_BYTES if job.timed_only else shared_bytes(job.settings, kind)
        core = RemoteCore(channel, device, reserve, on_cuda, copies=not job.timed_only)
        run = Run(job, device, core, timer, turn, sampler, clock, Control(timer), found, left_out, bursts)
        grid = core_grid(job.settings, kind)
        for place, shape in enumerate(grid):
            rows += shape_rows(shape, place, run)
            others.update(sampler.other_processes(turn.ours))
            print(f"core {job.backend}: process {job.process + 1}: {shape}", flush=True)
        if job.process == 0 and job.corners is not None:
            rows += corner_rows(job.backend, core, compose(gather), grid[0], job.corners, device)
        notes, switched = peer.about(channel, "notes"), peer.about(channel, "switched")
    facts = CoreFacts(
        **circumstances(
            job.host.device, job.process, time.monotonic() - start - turn.waited_s, rows, clock, rates, others
        ),
        notes=tuple(notes),
        dtype=job.settings.dtype.of(kind),
        left_out=tuple(left_out),
        bursts=tuple(bursts),
        switches=seen,
        switched=tuple(str(each) for each in switched),
    )
    return Replicated([{**row, "process": job.process} for row in rows], facts)


def shared_bytes(settings: CoreSettings, kind: str) -> int:
    """What both processes see at once, at most: the inputs of a call, and what a block's replays take and give."""
    replays = -(-settings.iters // BLOCKS)
    elements = [
        shape.batch
        * shape.groups
        * (shape.head_dim + shape.value_dim)
        * (
            2 * shape.context
            + shape.context // shape.cmp_stride
            + (replays + 1) * (shape.heads_per_group + 3 * CHANGED)
        )
        for shape in core_grid(settings, kind)
    ]
    return ITEM_BYTES[settings.dtype.of(kind)] * max(elements) + FURTHER_BYTES


def _machine(job: Job) -> tuple[Machine, Flags]:
    return job.host.machine, job.host.flags
