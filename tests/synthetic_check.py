"""Synthetic kernel checks with known times and errors: facts and rows as the bench writes them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from synthetic import GRID, Rows, clocks, controls, timed_facts

from nsa.records.facts import Alone, Burst, CheckFacts
from nsa.records.grids import grid
from nsa.records.shapes import GridShape
from nsa.records.tried import check_corners
from nsa.records.words import AGAIN


def check_facts(device: str, processes: int, changes: Mapping[str, object] | None = None) -> CheckFacts:
    """The facts of a kernel check that ran and that no check objects to."""
    found = {**timed_facts(device, processes), "dtype": GRID.dtype.of(device), "left_out": ()}
    if device == "cuda":
        shapes = [GridShape(*shape.sizes) for shape in grid(GRID, device)]
        sides = [(process, shape) for process in range(processes) for shape in shapes]
        found["baseline_alone"] = tuple(alone(process, shape) for process, shape in sides if shape == shapes[0])
        found["bursts"] = tuple(burst(process, shape) for process, shape in sides)
    return CheckFacts.model_validate(found).model_copy(update=dict(changes or {}))


def alone(process: int, shape: GridShape, us: float = 60.0) -> Alone:
    """Packed SDPA's time without the candidate, which is that beside it."""
    return Alone(process=process, backend="sdpa:gather", shape=shape, median_ns=1e3 * us)


def burst(process: int, shape: GridShape, us: float = 9.0, events_us: float = 10.0, queries: int = 1) -> Burst:
    """Replays that are a bit shorter without a pause than one by one; launching one takes 2 µs in the judge."""
    times = {"burst_ns": 1e3 * us, "events_ns": 1e3 * events_us, "empty_ns": 2e3}
    return Burst(process=process, shape=shape, replays=300, queries=queries, **times)


def check_rows(backend: str, device: str, speedup: float, processes: int) -> Rows:
    """A correctness result per seed and, on CUDA, timed repetitions: the candidate, twice, and the packed variants."""
    rng, rows = np.random.default_rng(1), []
    on_cuda = device == "cuda"
    asked = GRID if on_cuda else GRID.model_copy(update={"rows": (GRID.cpu_rows,)})
    axes = ("rows", "heads_per_group", "head_dim", "value_dim", "sel_count")
    times_us = {"sdpa:gather": 60.0, "sdpa:varlen": 90.0, "sdpa:index_select": 95.0, "sdpa:blocks": 99.0}
    times_us |= {backend: 60.0 / speedup, AGAIN + backend: 60.0 / speedup}
    rounding = 1e-3 if on_cuda else 1e-6
    correct = {"mae": 1e-5, "oracle_error": 2 * rounding, "sdpa_oracle_error": 1.9 * rounding, "fault": None}
    context = GRID.context if on_cuda else GRID.cpu_context
    for sizes in itertools.product(*(getattr(asked, axis) for axis in axes)):
        shape = {**dict(zip(axes, sizes, strict=True)), "sel_block": 64, "context": context, "groups": 4}
        for name, time_us in times_us.items():
            row = {**shape, "backend": name, "dtype": GRID.dtype.of(device)}
            if not name.startswith(AGAIN):
                rows += [{**row, "process": 0, "seed": seed, **correct} for seed in range(asked.seeds)]
                replicates = range(processes if on_cuda else 0)
                rows += [{**row, "process": process, "seed": None, **correct, "judged": 5} for process in replicates]
            for process, order in itertools.product(range(processes if on_cuda else 0), range(5)):
                pace = 1 + 0.002 * rng.standard_normal()
                timing = {"process": process, "order": order, "value_ns": round(1e3 * time_us * pace)}
                rows.append({**row, **timing, **clocks(device)})
        for process in range(processes if on_cuda else 0):
            rows += controls({**row, **clocks(device), "process": process}, "backend")
    return rows + corner_rows(backend, device)


def corner_rows(backend: str, device: str) -> Rows:
    """Every call of every corner case of a whole check, which a kernel gets right."""
    dtype = GRID.dtype.of(device)
    rounding = 1e-3 if device == "cuda" else 1e-6
    shape = {"rows": 12, "head_dim": 64, "value_dim": 64, "sel_count": 8, "sel_block": 64, "context": 704, "groups": 4}
    right = {"mae": 1e-5, "oracle_error": rounding, "sdpa_oracle_error": rounding, "fault": None}
    row = {**shape, "dtype": dtype, "backend": backend, "process": 0, "seed": 123, **right}
    calls = [case for case, many in check_corners(dtype).items() for _ in range(many)]
    return [{**row, "case": case, "heads_per_group": 4} for case in calls]
