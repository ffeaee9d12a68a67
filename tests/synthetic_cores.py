"""Synthetic records of the core check: known times of a core, of dense attention and of the composed core."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from synthetic import CORES, Rows, clocks, controls, timed_facts

from nsa.config import CoreSettings
from nsa.records.facts import CoreBurst, CoreFacts, LeftOut
from nsa.records.grids import core_grid
from nsa.records.shapes import CoreShape
from nsa.records.tried import core_corners
from nsa.records.words import AGAIN, COMPOSED, DENSE, EVERY_SHAPE, TIMED, UNSEEN

FLOOR_BYTES = 4_000_000  # of a core: 1 µs at the copy's 4 TB/s
CUDNN_US, FLASH_US, COMPOSED_US = 60.0, 80.0, 300.0
LEFT_OUT = tuple(
    LeftOut(name=f"{DENSE}{name}", shape=EVERY_SHAPE, reason="not installed (no module)")
    for name in ("fa3", "flashinfer", "efficient")
)


def core_facts(device: str, processes: int, changes: Mapping[str, object] | None = None) -> CoreFacts:
    """The facts of a core check that ran and that no check objects to, but that some kernels are not installed."""
    left_out = LEFT_OUT if device == "cuda" else ()
    found = {**timed_facts(device, processes), "dtype": CORES.dtype.of(device), "left_out": left_out}
    if device == "cuda":
        found["bursts"] = tuple(
            core_burst(process, shape) for process in range(processes) for shape in core_grid(CORES, device)
        )
    return CoreFacts.model_validate(found).model_copy(update=dict(changes or {}))


def core_burst(process: int, shape: CoreShape, us: float = 9.0, events_us: float = 10.0) -> CoreBurst:
    """Replays that are a bit shorter without a pause than one by one."""
    times = {"burst_ns": 1e3 * us, "events_ns": 1e3 * events_us, "empty_ns": 2e3}
    return CoreBurst(process=process, shape=shape, replays=300, queries=1, **times)


def core_rows(backend: str, device: str, speedup: float, processes: int, settings: CoreSettings = CORES) -> Rows:
    """Results on timed and unseen inputs and, on CUDA, repetitions; every corner case of a whole check."""
    rng, rows, on_cuda = np.random.default_rng(2), [], device == "cuda"
    mine = CUDNN_US / speedup
    times_us = {backend: mine, AGAIN + backend: mine, COMPOSED: COMPOSED_US}
    if on_cuda:
        times_us |= {f"{DENSE}cudnn": CUDNN_US, f"{DENSE}flash": FLASH_US}
    rounding = 4e-3 if on_cuda else 1e-6
    right = {"error": rounding, "composed_error": rounding, "fault": None}
    for shape, process in itertools.product(core_grid(settings, device), range(processes if on_cuda else 1)):
        base = {**asdict(shape), "process": process, "keys": "noise", "seed": 7}
        for name, time_us in times_us.items():
            row = {**base, "backend": name, "floor_bytes": FLOOR_BYTES}
            blocks = {"rows": 32, "clear": 32} if name == backend else {}
            if not name.startswith(AGAIN):
                rows.append({**row, **right, **blocks, "case": TIMED, "judged": 4})
            if name in (backend, COMPOSED):
                rows.append({**row, **right, **blocks, "case": UNSEEN, "keys": "sinks"})
            for order in range(4 if on_cuda else 0):
                value = round(1e3 * time_us * (1 + 0.002 * rng.standard_normal()))
                rows.append({**row, **clocks(device), "block": 0, "order": order, "value_ns": value})
        if on_cuda:
            rows += controls({**base, **clocks(device)}, "backend")
    corner = {**asdict(core_grid(settings, device)[0]), "backend": backend, "process": 0, "seed": 99, "keys": "noise"}
    corner |= {"batch": 3, "context": 1200}
    calls = [case for case, many in core_corners().items() for _ in range(many)]
    return rows + [{**corner, **right, "case": case} for case in calls]
