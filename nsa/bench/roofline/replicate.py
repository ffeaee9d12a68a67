"""One replicate of the roofline: every backend on every shape, all captured at once and timed in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial

import torch

from nsa.bench.method.accuracy import selected_oracle
from nsa.bench.method.circumstances import circumstances
from nsa.bench.method.clocks import Clock
from nsa.bench.method.control import Control
from nsa.bench.method.failures import device_at_work
from nsa.bench.method.inputs import Call, full_case
from nsa.bench.method.interleave import Candidate, Group, interleave
from nsa.bench.method.kernels import WARMUP, Kernels, Timed, able, enter, judge, last_calls
from nsa.bench.method.reads import selected_by_tensors
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import CudaTimer, bandwidths
from nsa.bench.roofline.job import Job
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.kernels import registry
from nsa.machine.nvml import Sampler
from nsa.records.facts import RooflineFacts
from nsa.records.grids import roofline_grid
from nsa.records.words import AGAIN, BASELINE, EMPTY, REFUSED, Row


def replicate(job: Job, turn: Turn) -> Replicated[RooflineFacts]:
    """Run one replicate in this process.

    Raises:
        BackendUnavailable: a backend is there and does not load.
        NoMemory: the shapes do not fit together.
        KernelFailed: a backend failed while it ran.
    """
    start, device = time.monotonic(), torch.device(job.host.device.kind)
    loaded = {name: registry.load(name, job.host.machine, job.host.flags) for name in job.backends}
    kernels = {name: backend.selection_kernel for name, backend in loaded.items()}
    with device_at_work(", ".join(loaded)), Sampler(job.host.device.uuid) as sampler:
        order, timer = random.Random(job.process), CudaTimer(device)
        rows, entered = _enter_all(kernels, job, order, timer)
        empty = timer.capture_empty(WARMUP)
        nothing = Candidate({"backend": EMPTY}, partial(timer.time, lambda: None, empty.graph.replay, True))
        clock, control = Clock(sampler, timer.nudge), Control(timer).groups("backend", {})
        groups: list[Group] = [[nothing], *control, *(list(timed.group.values()) for _, timed in entered)]
        iters = job.settings.iters
        with turn:
            before = bandwidths(device)
            rows += interleave(groups, iters, iters, order, sampler, timer, clock)
            lasts = [last_calls(timed) for _, timed in entered]
            after = bandwidths(device)
            others = sampler.other_processes(turn.ours)
        for (columns, timed), (last, outputs) in zip(entered, lasts, strict=True):
            outputs = {name: output for name, output in outputs.items() if not name.startswith(AGAIN)}
            rows += [*last, *judge(outputs, BASELINE, columns, None, selected_oracle(timed.replays.call))]
    rows = [{**row, "process": job.process} for row in rows]
    facts = RooflineFacts(
        **circumstances(
            job.host.device, job.process, time.monotonic() - start - turn.waited_s, rows, clock, (before, after), others
        ),
        notes=tuple({"backend": name, "note": note} for name, one in loaded.items() for note in registry.notes(one)),
        backends={},  # the stage fills them in, those that did not take part among them
    )
    return Replicated(rows, facts)


def _enter_all(
    kernels: Kernels, job: Job, order: random.Random, timer: CudaTimer
) -> tuple[list[Row], list[tuple[Row, Timed]]]:
    """Capture every kernel on every shape, in random order, packed SDPA twice; a row for each that refuses one."""
    device, every = timer.device, roofline_grid(job.settings)
    caches: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
    rows: list[Row] = []
    entered: list[tuple[Row, Timed]] = []
    for shape in order.sample(every, len(every)):
        call = full_case(shape, job.process, device)
        k, v = caches.setdefault((shape.rows, shape.head_dim), (call.k, call.v))  # gigabytes: one draw for all h and n
        call = call._replace(k=k, v=v)
        columns: Mapping[str, str | int] = {**asdict(shape), "selected_bytes": _selected_bytes(call)}
        takes, refused = able(kernels, call)
        takes = {BASELINE: kernels[BASELINE], f"{AGAIN}{BASELINE}": kernels[BASELINE], **takes}
        rows += [{**columns, "backend": name, "fault": f"{REFUSED}{reason}"} for name, reason in refused.items()]
        entered.append((columns, enter(takes, columns, Replays(call, job.process, changes=False), order, timer)))
    return rows, entered


def _selected_bytes(call: Call) -> int:
    """Bytes of K and V that the indices and lengths of a call name, each token once."""
    tokens = int(selected_by_tensors(call.block_indices, call.seq_lens, call.block_size).sum())
    return tokens * (call.k.shape[-1] + call.v.shape[-1]) * call.k.element_size()
