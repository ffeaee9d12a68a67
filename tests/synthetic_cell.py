"""Synthetic decode cells with known times of each part: facts and rows as the bench writes them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from synthetic import Rows, clocks, controls, timed_facts

from nsa.records.decode import DecodeFacts, Geometry, Judged, Reads
from nsa.shapes import NsaShape

WEIGHT = 1 / 16
PARTS_MS = {"fixed": 0.030, "cmp": 0.010, "route": 0.006, "sel": 0.040, "win": 0.012, "overlap": -0.002}
TORCH_PARTS_MS = 0.096  # what a step takes more with torch operators for compressed attention and routing
EMISSION_MS = 0.002  # what an emitting step takes more
ARM_PARTS = {
    "none": ("fixed",),
    "cmp": ("fixed", "cmp"),
    "cmp_route": ("fixed", "cmp", "route"),
    "sel": ("fixed", "sel"),
    "win": ("fixed", "win"),
    "all": ("fixed", "cmp", "route", "sel", "win", "overlap"),
    "all_without_sel": ("fixed", "cmp", "route", "win"),
    "all_again": ("fixed", "cmp", "route", "sel", "win", "overlap"),
}


def decode_facts(S: int, device: str, processes: int, changes: Mapping[str, object] | None = None) -> DecodeFacts:
    """The facts of a cell that ran and that no check objects to; what differs from them may be anything."""
    shape, expected = NsaShape(), float(NsaShape().reads_expected(S))
    reads = Reads(
        cmp=float(shape.num_compressed(S)),
        sel=float(shape.selected_tokens(S)),
        win=float(min(shape.window, S)),
        actual=expected,
        expected=expected,
    )
    dtype = "bfloat16" if device == "cuda" else "float32"
    sound = DecodeFacts.model_validate(
        {
            **timed_facts(device, processes),
            "geometry": Geometry(S=S, batch=1, dtype=dtype, seed=0, **shape.model_dump()),
            "reads": reads,
            "bytes_read": int(expected) * 256,
            "parts": "triton",
            "emit_weight": WEIGHT,
            "outputs_finite": True,
            "routing_fault": None,
            "judged": tuple(judged(process) for process in range(processes)),
            "launches": launches(),
        }
    )
    return sound.model_copy(update=dict(changes or {}))


def judged(process: int, **changes: object) -> Judged:
    """What a float64 step says of a process whose steps are right."""
    errors = ("query", "key", "value", "k_cmp", "v_cmp")
    sound = Judged(
        process=process,
        steps=1032,
        outputs=dict.fromkeys(ARM_PARTS, 4e-6),
        states=dict.fromkeys(errors, 3e-6),
        lengths_right=True,
        caches_kept=True,
        rows=256,
        clear=256,
        wrong=0,
    )
    return sound.model_copy(update=changes)


def launches() -> dict[str, dict[str, int]]:
    """What honest arms launch: a kernel of its own for each part, and the gated sum over the branches that ran."""
    found = {}
    for arm, parts in ARM_PARTS.items():
        found[arm] = {f"kernel_{part}": 1 for part in parts if part != "overlap"}
        branches = sum(part in ("cmp", "sel", "win") for part in parts)
        sums = {"mul.Tensor": min(branches, 1), "addcmul": max(branches - 1, 0)}
        found[arm] |= {kernel: count for kernel, count in sums.items() if count}
    return found


def decode_rows(
    S: int,
    backend: str,
    device: str,
    parts: Mapping[str, float],
    processes: int,
    iters: int,
    noise: float,
    variants: Mapping[str, float] | None = None,
) -> Rows:
    """Repetitions of every arm: each process has its own pace (a process effect), each repetition its own noise.

    `variants`: what selection takes in ms with other packings, with which the step is timed, too, and once with slower
    routing in torch operators.
    """
    arm_ms = {arm: sum(parts[part] for part in running) for arm, running in ARM_PARTS.items()}
    for name, ms in (variants or {}).items():
        arm_ms |= {f"{arm}@{name}": arm_ms[arm] - parts["sel"] + ms for arm in ("all", "sel")}
    if variants:
        arm_ms["all@torch parts"] = arm_ms["all"] + TORCH_PARTS_MS
    rng = np.random.default_rng(S + sum(map(ord, backend)))
    modes = [("graph", "cold", 1.0), ("graph", "warm", 0.9), ("eager", "warm", 1.5)]
    modes = modes if device == "cuda" else [("eager", "warm", 1.0)]
    facts = decode_facts(S, device, 1)
    cell = {
        **facts.geometry.model_dump(),
        "device": device,
        "device_name": facts.device.name,
        "device_uuid": facts.device.uuid,
        "backend_requested": backend,
        "backend_resolved": backend,
        **clocks(device),
    }
    rows: Rows = []
    for process in range(processes):
        pace = 1 + noise * rng.standard_normal()
        for mode, cache_state, factor in modes:
            whole = ["all", *(f"all@{name}" for name in variants or {})]
            arms = whole if (device, mode) == ("cuda", "eager") else list(arm_ms)
            for block in range(2):
                places = {arm: int(place) for arm, place in zip(arms, rng.permutation(len(arms)), strict=True)}
                for arm, emits, _ in itertools.product(arms, (True, False), range(iters)):
                    ms = arm_ms[arm] + EMISSION_MS * emits
                    value = ms * factor * pace * (1 + noise / 4 * rng.standard_normal())
                    timing = {"mode": mode, "cache_state": cache_state, "process": process, "block": block}
                    rows.append(
                        {**cell, **timing, "arm": arm, "emits": emits, "order": places[arm]}
                        | {"value_ns": round(1e6 * value)}
                    )
        if device == "cuda":
            base = {**cell, "arm": "empty", "emits": False, "mode": "graph", "cache_state": "cold"}
            rows += [{**base, "process": process, "block": 0, "order": 9, "value_ns": 3400} for _ in range(iters)]
            rows += controls({**base, "emits": None, "process": process}, "arm")
    return rows
