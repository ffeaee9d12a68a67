"""Whether a kernel is right: its outputs on fresh ragged inputs, how it behaves, and what it launches."""

from __future__ import annotations

from dataclasses import asdict

import torch

from nsa.bench.check.job import Job
from nsa.bench.method.accuracy import oracle, run_poisoned, selected_oracle
from nsa.bench.method.behaviour import follows_its_inputs, is_packed_sdpa, reads_what_it_is_given, repeats
from nsa.bench.method.inputs import Call, ragged_case
from nsa.bench.method.kernels import Kernels, judge
from nsa.records.shapes import CheckShape
from nsa.records.words import PACKED, Row

SEEDS = 1000  # draws that one seed of the check keeps for itself


def untimed_rows(name: str, first: tuple[CheckShape, Kernels] | None, job: Job) -> list[Row]:
    """What needs no timing, after all of it: a process that was profiled launches more slowly ever after."""
    rows: list[Row] = []
    if first is not None and job.process == 0 and not job.packs:
        shape, kernels = first
        fault = is_packed_sdpa(name, kernels, _probe(shape, job))
        rows += [{**asdict(shape), "process": 0, "backend": name, "seed": 0, "fault": fault}] if fault else []
    return rows


def judged_rows(name: str, kernels: Kernels, shape: CheckShape, job: Job, columns: Row, *, counts: bool) -> list[Row]:
    """Fresh ragged inputs for each of the process's seeds; in the first process, too, how the kernel behaves.

    The processes share the seeds among them. The first row is the checked kernel's, and has the fault of its behaviour.
    Reads are counted on one shape (counts): no shape changes what that shows.
    """
    seeds = range(job.process, job.settings.seeds, job.of)
    rows = [row for seed in seeds for row in _correctness(kernels, shape, seed, job, columns)]
    if job.process > 0:
        return rows
    kernel, call = kernels[name], _probe(shape, job)
    fault = rows[0].get("fault") or repeats(kernel, call)
    if fault is None and counts:
        fault = reads_what_it_is_given(kernel, call)
    return [{**rows[0], "fault": fault or follows_its_inputs(kernel, call)}, *rows[1:]]


def _probe(shape: CheckShape, job: Job) -> Call:
    """The ragged inputs on which a kernel's behaviour is looked at."""
    return ragged_case(shape, SEEDS * job.seed + SEEDS // 2, torch.device(job.host.device.kind))


def _correctness(kernels: Kernels, shape: CheckShape, seed: int, job: Job, columns: Row) -> list[Row]:
    """One row a kernel: its faults and errors on fresh ragged inputs, its output memory poisoned before.

    The dense oracle judges the first seed and the batched one the others: were the latter wrong, kernels that are right
    on the first seed would fail on them.
    """
    call = ragged_case(shape, SEEDS * job.seed + seed, torch.device(job.host.device.kind))
    outputs = {name: run_poisoned(kernel, call) for name, kernel in kernels.items()}
    exact = oracle(call) if seed == 0 else selected_oracle(call)
    return judge(outputs, PACKED, columns, seed, exact)
