"""One replicate of the kernel check: a backend and every packed SDPA variant, on the same inputs, interleaved."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from nsa.bench.accuracy import fault, mean_absolute_error, oracle, run_poisoned, worst_row_error
from nsa.bench.cases import Call, CheckShape, full_case, grid, ragged_case
from nsa.bench.stage import Host
from nsa.bench.timing import CudaTimer
from nsa.config import CheckSettings
from nsa.kernels import registry
from nsa.kernels.contract import SelectAttention

BASELINE = "sdpa"
BLOCKS = 5  # randomised blocks that the repetitions are spread over
TIMED_SEED = 1000  # inputs that are timed, one draw a process, are none of those checked before

Kernels = Mapping[str, SelectAttention]


@dataclass(frozen=True)
class Job:
    """What one replicate checks."""

    backend: str
    settings: CheckSettings
    host: Host
    process: int


def contest(job: Job) -> tuple[list[dict[str, Any]], str | None]:
    """Rows of records.CHECK_REPETITIONS for the whole grid, or why the GPU's memory was not enough."""
    device = torch.device(job.host.device)
    if device.type == "cpu":
        torch.set_num_threads(1)  # waiting threads spin, and small kernels gain nothing from them
    kernels = contestants(job)
    rows: list[dict[str, Any]] = []
    try:
        for shape in grid(job.settings, device.type):
            if job.process == 0:
                for seed in range(job.settings.seeds):
                    rows += _correctness(kernels, shape, seed, ragged_case(shape, seed, device))
            if device.type == "cuda":
                rows += _race(kernels, shape, job, device)
            print(f"check {job.backend}: process {job.process + 1}: {shape}", flush=True)
    except torch.cuda.OutOfMemoryError as error:
        return [], str(error).splitlines()[0]
    return [{**row, "process": job.process} for row in rows], None


def contestants(job: Job) -> dict[str, SelectAttention]:
    """The backend under its name, and every packed SDPA variant as sdpa:<variant>."""
    backend = registry.load(job.backend, job.host.machine, job.host.flags)
    packed = registry.load(BASELINE, job.host.machine, job.host.flags)
    rivals = {f"{BASELINE}:{name}": variant for name, variant in packed.variants.items()}
    return {backend.name: backend.select_attention, **rivals}


def _correctness(kernels: Kernels, shape: CheckShape, seed: int, call: Call) -> list[dict[str, Any]]:
    """One row a kernel: its faults and errors on fresh inputs, its output memory poisoned before."""
    outputs = {name: run_poisoned(kernel, call) for name, kernel in kernels.items()}
    return _judge(outputs, shape, seed, call)


def _judge(
    outputs: Mapping[str, tuple[torch.Tensor, str | None]], shape: CheckShape, seed: int, call: Call
) -> list[dict[str, Any]]:
    """Compare each output with packed SDPA in the same dtype and with the float64 oracle."""
    exact = oracle(call)
    packed = outputs[f"{BASELINE}:gather"][0]
    packed_error = worst_row_error(packed, exact)
    rows = []
    for name, (output, found) in outputs.items():
        row = {**asdict(shape), "backend": name, "seed": seed, "fault": found, "sdpa_oracle_error": packed_error}
        if output.shape == exact.shape:
            row |= {"mae": mean_absolute_error(output, packed), "oracle_error": worst_row_error(output, exact)}
        rows.append(row)
    return rows


def _race(kernels: Kernels, shape: CheckShape, job: Job, device: torch.device) -> list[dict[str, Any]]:
    """Time every kernel's captured graph, cold, in randomised blocks; then judge what the timed replays wrote."""
    seed = TIMED_SEED + job.process
    call, timer = full_case(shape, seed, device), CudaTimer(device)
    order = random.Random(f"{seed}/{shape}")
    captured = {  # in random order: see replicate
        name: timer.capture(lambda: None, partial(kernels[name], *call), warmup=3)
        for name in order.sample(list(kernels), len(kernels))
    }
    for graph in captured.values():
        graph.output.fill_(torch.nan)
    rows: list[dict[str, Any]] = []
    blocks = min(BLOCKS, job.settings.iters)
    for block in range(blocks):
        repetitions = job.settings.iters // blocks + (block < job.settings.iters % blocks)
        for place, name in enumerate(order.sample(list(captured), len(captured))):
            for value in timer.time(lambda: None, captured[name].graph.replay, True, repetitions):
                rows.append({**asdict(shape), "backend": name, "order": place, "value_ns": value})
    outputs = {name: (graph.output, fault(graph.output, call)) for name, graph in captured.items()}
    return rows + _judge(outputs, shape, seed, call)
