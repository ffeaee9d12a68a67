"""One replicate of the kernel check: a backend and every packed SDPA variant, on the same inputs, interleaved."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from nsa.bench.method.accuracy import run_poisoned
from nsa.bench.method.behaviour import follows_its_inputs, is_packed_sdpa, reads_what_it_is_given, repeats
from nsa.bench.method.inputs import Call, CheckShape, grid, ragged_case
from nsa.bench.method.interleave import judge, race
from nsa.bench.runner import out_of_memory
from nsa.config import CheckSettings
from nsa.errors import InputError, KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import Backend, SelectAttention
from nsa.machine.host import Host
from nsa.machine.nvml import Sampler

BASELINE = "sdpa"
CPU_CALLS = 5  # of the race on a CPU, which records no time
SEEDS = 1000  # draws that one seed of the check keeps for itself
PACKED = f"{BASELINE}:gather"  # the packed SDPA that errors are compared with: it takes every shape and stride

Kernels = Mapping[str, SelectAttention]


@dataclass(frozen=True)
class Job:
    """What one replicate checks; `seed` moves every random draw, so that the check itself can be repeated."""

    backend: str
    settings: CheckSettings
    host: Host
    process: int
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """Rows of records.CHECK_REPETITIONS, variants left out with their reasons, and why memory was not enough.

    `notes` is what the backend says of how its calls were made.
    """

    rows: list[dict[str, Any]]
    left_out: dict[str, str]
    other_processes: list[int]
    error: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)


def contest(job: Job) -> Outcome:
    """Check the job's backend on the whole grid against every packed SDPA variant."""
    backend = registry.load(job.backend, job.host.machine, job.host.flags)
    packed = registry.load(BASELINE, job.host.machine, job.host.flags)
    rivals = {f"{BASELINE}:{name}": variant for name, variant in packed.variants.items()}
    return check_kernel(backend, rivals, job)


def check_kernel(backend: Backend, rivals: Kernels, job: Job) -> Outcome:
    """Check one backend's kernel: correctness on ragged inputs, behaviour, and the timed invocations."""
    name, kernel = backend.name, backend.select_attention
    device = torch.device(job.host.device)
    if device.type == "cpu":
        torch.set_num_threads(1)  # waiting threads spin, and small kernels gain nothing from them
    iters = job.settings.iters if device.type == "cuda" else min(job.settings.iters, CPU_CALLS)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    others: set[int] = set()
    try:
        with Sampler(job.host.device_uuid) as sampler:
            for place, shape in enumerate(grid(job.settings, device.type)):
                able = _able({name: kernel, **rivals}, shape, device, left_out)
                if name not in able:
                    rows.append({**asdict(shape), "backend": name, "seed": 0, "fault": f"refused: {left_out[name]}"})
                    continue
                if job.process == 0:
                    judged = [row for seed in range(job.settings.seeds) for row in _correctness(able, shape, seed, job)]
                    call = ragged_case(shape, SEEDS * job.seed + SEEDS // 2, device)
                    judged[0]["fault"] = judged[0]["fault"] or _behaviour(backend, able, call, thorough=place == 0)
                    rows += judged
                if device.type == "cuda" or job.process == 0:
                    timed, call, outputs = race(able, shape, iters, job.seed, job.process, device)
                    rows += timed + judge(outputs, PACKED, asdict(shape), job.settings.seeds + job.process, call)
                others.update(sampler.other_processes())
                print(f"check {name}: process {job.process + 1}: {shape}", flush=True)
    except RuntimeError as error:  # what torch, Triton and the extension raise for a kernel that fails on the device
        if out_of_memory(error):
            return Outcome([], left_out, sorted(others), str(error).splitlines()[0])
        traceback.print_exc()  # into the job's log
        raise KernelFailed(str(error).splitlines()[0]) from error
    rows = [{**row, "process": job.process} for row in rows]
    return Outcome(rows, left_out, sorted(others), notes=backend.notes())


def _able(kernels: Kernels, shape: CheckShape, device: torch.device, left_out: dict[str, str]) -> Kernels:
    """The kernels that take this shape; the others are left out, with their reason."""
    call, able = ragged_case(shape, 0, device), {}
    for name, kernel in kernels.items():
        try:
            kernel(*call)
        except InputError as error:
            left_out.setdefault(name, str(error))
        else:
            able[name] = kernel
    return able


def _correctness(kernels: Kernels, shape: CheckShape, seed: int, job: Job) -> list[dict[str, Any]]:
    """One row a kernel: its faults and errors on fresh ragged inputs, its output memory poisoned before."""
    call = ragged_case(shape, SEEDS * job.seed + seed, torch.device(job.host.device))
    outputs = {name: run_poisoned(kernel, call) for name, kernel in kernels.items()}
    return judge(outputs, PACKED, asdict(shape), seed, call)


def _behaviour(backend: Backend, kernels: Kernels, call: Call, thorough: bool) -> str | None:
    """The first fault in how the kernel behaves; the probes that no shape changes are made once (thorough)."""
    name, kernel = backend.name, backend.select_attention
    found = repeats(kernel, call)
    if found is None and thorough and not backend.packs:
        found = is_packed_sdpa(name, kernels, call)
    if found is None and thorough:
        found = reads_what_it_is_given(kernel, call)
    return found or follows_its_inputs(kernel, call)
