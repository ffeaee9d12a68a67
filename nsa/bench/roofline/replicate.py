"""One replicate of the roofline: every backend on every shape, all captured at once and timed in turns."""

from __future__ import annotations

import random
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from typing import Any

import torch

from nsa.bench.decode.arms import EMPTY
from nsa.bench.method.inputs import Call, CheckShape, full_case
from nsa.bench.method.interleave import WARMUP, Candidate, Group, QueryRotation, enter, interleave, judge, last_calls
from nsa.bench.method.reads import selected_by_tensors
from nsa.bench.method.timing import CudaTimer, copy_bandwidth
from nsa.bench.roofline.stage import PACKED
from nsa.bench.runner import out_of_memory
from nsa.config import RooflineSettings
from nsa.errors import InputError, KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import SelectAttention
from nsa.machine.host import Host
from nsa.machine.nvml import Sampler

Rows = list[dict[str, Any]]
Kernels = Mapping[str, SelectAttention]


@dataclass(frozen=True)
class Job:
    """What one replicate times; packed SDPA is among the backends."""

    backends: tuple[str, ...]
    settings: RooflineSettings
    host: Host
    process: int


@dataclass(frozen=True)
class Outcome:
    """Rows of records.ROOFLINE, the copy bandwidth before and after them, and why memory was not enough.

    `notes` is what each backend says of how its calls were made.
    """

    rows: Rows = field(default_factory=list)
    bandwidth_bytes_per_s: tuple[float, ...] = ()
    other_processes: tuple[int, ...] = ()
    error: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def replicate(job: Job) -> Outcome:
    """Run one replicate in this process.

    Raises:
        BackendUnavailable: a backend is there and does not load.
        KernelFailed: a backend failed while it ran; which one, only a race of its own can tell.
    """
    machine, flags, device = job.host.machine, job.host.flags, torch.device(job.host.device)
    backends = {name: registry.load(name, machine, flags) for name in job.backends}
    kernels = {name: backend.select_attention for name, backend in backends.items()}
    try:
        with Sampler(job.host.device_uuid) as sampler:
            before = copy_bandwidth(device)
            rows = _race(kernels, job, device)
            after = copy_bandwidth(device)
            others = sampler.other_processes()
    except RuntimeError as error:  # what torch, Triton and the extension raise for a kernel that fails on the device
        if out_of_memory(error):
            return Outcome(error=str(error).splitlines()[0])
        traceback.print_exc()  # into the job's log
        raise KernelFailed(str(error).splitlines()[0]) from error
    notes = {name: backend.notes() for name, backend in backends.items()}
    return Outcome(rows, (before, after), tuple(others), notes=notes)


def shapes(settings: RooflineSettings) -> list[CheckShape]:
    """Every shape of the roofline."""
    fixed = (settings.sel_block, settings.context, settings.groups, settings.dtype)
    axes = product(settings.rows, settings.head_dim, settings.sel_count, settings.heads_per_group)
    return [CheckShape(N, h, D, D, n, *fixed) for N, D, n, h in axes]


def _race(kernels: Kernels, job: Job, device: torch.device) -> Rows:
    """Capture every kernel on every shape, in random order; then time all of them once a round, in another."""
    order, timer = random.Random(job.process), CudaTimer(device)
    every = shapes(job.settings)
    caches: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]] = {}
    rows: Rows = []
    entered: list[tuple[Group, QueryRotation]] = []
    for shape in order.sample(every, len(every)):
        call = full_case(shape, job.process, device)
        k, v = caches.setdefault((shape.rows, shape.head_dim), (call.k, call.v))  # gigabytes: one draw for all h and n
        call = call._replace(k=k, v=v)
        columns = {**asdict(shape), "selected_bytes": _selected_bytes(call)}
        able, refused = _able(kernels, call)
        rows += [{**columns, "backend": name, "fault": f"refused: {reason}"} for name, reason in refused.items()]
        entered.append(enter(able, columns, call, order, timer))
    empty = timer.capture_empty(WARMUP)
    nothing = Candidate(partial(timer.time, lambda: None, empty.graph.replay, True), empty.output.clone)
    groups = [Group({}, {EMPTY: nothing}), *(group for group, _ in entered)]
    rows += interleave(groups, job.settings.iters, job.settings.iters, order)
    for group, queries in entered:
        last, outputs = last_calls(group, queries)
        rows += last + judge(outputs, PACKED, group.columns, job.process, queries.call)
    return [{**row, "process": job.process} for row in rows]


def _able(kernels: Kernels, call: Call) -> tuple[Kernels, dict[str, str]]:
    """The kernels that take this call, packed SDPA always among them, and why the others refuse it."""
    able, refused = {PACKED: kernels[PACKED]}, {}
    for name, kernel in kernels.items():
        try:
            kernel(*call)
        except InputError as error:
            refused[name] = str(error)
        else:
            able[name] = kernel
    return able, refused


def _selected_bytes(call: Call) -> int:
    """Bytes of K and V that the indices and lengths of a call name, each token once."""
    tokens = int(selected_by_tensors(call.block_indices, call.seq_lens, call.block_size).sum())
    return tokens * (call.k.shape[-1] + call.v.shape[-1]) * call.k.element_size()
