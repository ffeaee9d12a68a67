"""Synthetic records with known times: what the report reads, without a bench that writes it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nsa.config import CheckSettings, DecodeSettings, GateSettings
from nsa.records import parquet, schemas
from nsa.report.analysis import summary
from nsa.report.page.render import report
from nsa.report.verdict.run import ReportSettings
from nsa.shapes import NsaShape

STAMP = {"sources": "s0", "settings": "c0", "machine": "m0"}
WEIGHT = 1 / 16
PARTS_MS = {"fixed": 0.030, "cmp": 0.010, "route": 0.006, "sel": 0.040, "win": 0.012, "overlap": -0.002}
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
GRID = CheckSettings(
    rows=(256,), heads_per_group=(4,), head_dim=(64,), value_dim=(64, 128), sel_count=(8, 16), seeds=2, cpu_rows=8
)
CONFIG = {"contexts": [128, 2048], "decode": asdict(DecodeSettings()), "check": asdict(GRID)}
SETTINGS = ReportSettings("sdpa", ("sdpa", "cuda", "triton", "fa2"), (128, 2048), GRID, GateSettings())


Rows = list[dict[str, Any]]
Where = Mapping[str, Any]


@dataclass(frozen=True)
class Lab:
    """A results folder that is filled with synthetic records; each builder's arguments say what is unsound."""

    root: Path
    settings: ReportSettings = SETTINGS
    config: Mapping[str, Any] = field(default_factory=lambda: CONFIG)
    stamp: Mapping[str, str] = field(default_factory=lambda: dict(STAMP))

    @property
    def accepted(self) -> Path:
        """Where accepted runs lie."""
        return self.root / "accepted"

    @property
    def stamps(self) -> dict[str, Mapping[str, str]]:
        """Today's stamps."""
        stages = itertools.product(("decode", "check"), self.settings.backends)
        return {f"{stage}-{backend}": self.stamp for stage, backend in stages}

    def cell(
        self,
        backend: str = "sdpa",
        S: int = 2048,
        *,
        device: str = "cuda",
        parts: Mapping[str, float] | None = None,
        processes: int = 3,
        iters: int = 4,
        noise: float = 1e-3,
        status: str = "ok",
        facts: Mapping[str, Any] | None = None,
        drop: Where | None = None,
        alter: tuple[Where, Mapping[str, Any]] | None = None,
    ) -> Path:
        """Write one decode cell record.

        Args:
            parts: times in ms that differ from PARTS_MS.
            noise: relative, of the processes; a quarter of it, of the repetitions.
            facts: what differs from a sound cell's facts.
            drop: the rows that match are left out.
            alter: the rows that match the first get the values of the second.
        """
        known = self.facts("decode", backend, device, status) | {"S": S}
        rows: Rows = []
        if status == "ok":
            known |= sound_facts(S)
            seed = S + sum(map(ord, backend))
            rows = decode_rows(S, backend, device, {**PARTS_MS, **(parts or {})}, processes, iters, noise, seed)
        path = self.root / "decode" / backend / f"S{S}.parquet"
        parquet.write(path, changed(rows, drop, alter), schemas.REPETITIONS, {**known, **(facts or {})})
        return path

    def check(
        self,
        backend: str = "cuda",
        *,
        device: str = "cuda",
        speedup: float = 2.0,
        processes: int = 3,
        status: str = "ok",
        facts: Mapping[str, Any] | None = None,
        drop: Where | None = None,
        alter: tuple[Where, Mapping[str, Any]] | None = None,
    ) -> Path:
        """Write one kernel check record; the candidate is `speedup` times as fast as the better variant, gather."""
        rows = check_rows(backend, device, speedup, processes) if status == "ok" else []
        known = self.facts("check", backend, device, status)
        path = self.root / f"check_{backend}.parquet"
        parquet.write(path, changed(rows, drop, alter), schemas.CHECK_REPETITIONS, {**known, **(facts or {})})
        return path

    def facts(self, stage: str, backend: str, device: str, status: str) -> dict[str, Any]:
        """What every record says of itself."""
        ok = status == "ok"
        return {
            "stage": stage,
            "backend": backend,
            "device": device,
            "status": status,
            "reason": None if ok else f"{backend} is not here",
            "fix": None if ok else "run on a GPU",
            "provenance": {"git_commit": "abc123", "git_dirty": False, "environment": {"cuda": True}},
            "stamp": self.stamp,
        }

    def collect(self, cells: Sequence[Path]) -> list[Path]:
        """Write the summary of each backend."""
        summaries = []
        for backend in dict.fromkeys(path.parent.name for path in cells):
            summaries.append(self.root / f"decode_{backend}.parquet")
            own = [path for path in cells if path.parent.name == backend]
            summary.collect(own, summaries[-1], self.settings.gates.confidence)
        return summaries

    def render(self, cells: Sequence[Path], checks: Sequence[Path] = (), build: str = "skipped") -> dict[str, Any]:
        """Collect the cells and write the whole report; returns gate.json's content."""
        environment, manifest = self.root / "environment.json", self.root / "cuda.json"
        environment.write_text(
            json.dumps(
                {"cuda": True, "device": "NVIDIA Synthetic", "cpu": "Synthetic CPU", "torch": "2.13", "nvcc": None}
            )
        )
        log = "\n".join(f"line {n}" for n in range(50)) if build == "failed" else None
        manifest.write_text(json.dumps({"status": build, "reason": "no nvcc", "fix": "install CUDA", "log": log}))
        summaries = self.collect(cells)
        return report(
            environment,
            manifest,
            summaries,
            cells,
            checks,
            self.stamps,
            self.settings,
            self.config,
            self.root,
            accepted=self.accepted,
        )


def changed(rows: Rows, drop: Where | None, alter: tuple[Where, Mapping[str, Any]] | None) -> Rows:
    """The rows without those that match `drop`, and with those that match `alter` altered."""

    def match(row: Where, where: Where | None) -> bool:
        return where is not None and all(row.get(key) == value for key, value in where.items())

    where, new = alter or (None, {})
    return [{**row, **new} if match(row, where) else row for row in rows if not match(row, drop)]


def sound_facts(S: int) -> dict[str, Any]:
    """The facts of a cell that ran and that no check objects to."""
    shape, expected = NsaShape(), float(NsaShape().reads_expected(S))
    reads = {"cmp": shape.num_compressed(S), "sel": shape.selected_tokens(S), "win": min(shape.window, S)}
    return {
        "reads": {**reads, "actual": expected, "expected": expected},
        "bytes_read": int(expected) * 256,
        "bandwidth_bytes_per_s": 4e12,
        "outputs_finite": True,
        "launches": {arm: [f"kernel_{part}" for part in parts] for arm, parts in ARM_PARTS.items()},
        "emit_weight": WEIGHT,
    }


def decode_rows(
    S: int, backend: str, device: str, parts: Mapping[str, float], processes: int, iters: int, noise: float, seed: int
) -> list[dict[str, Any]]:
    """Repetitions of every arm: each process has its own pace (a process effect), each repetition its own noise."""
    rng = np.random.default_rng(seed)
    modes = [("graph", "cold", 1.0), ("graph", "warm", 0.9), ("eager", "warm", 1.5)]
    modes = modes if device == "cuda" else [("eager", "warm", 1.0)]
    cell = {
        **vars(NsaShape()),
        "device": device,
        "device_name": "NVIDIA Synthetic" if device == "cuda" else "Synthetic CPU",
        "device_uuid": "GPU-0" if device == "cuda" else None,
        "batch": 1,
        "S": S,
        "dtype": "bfloat16" if device == "cuda" else "float32",
        "seed": 0,
        "backend_requested": backend,
        "backend_resolved": backend,
    }
    clocks = (
        {"sm_clock_mhz": 1980, "temperature_c": 50, "power_w": 300.0, "throttle_bits": 0} if device == "cuda" else {}
    )
    rows = []
    for process in range(processes):
        pace = 1 + noise * rng.standard_normal()
        for mode, cache_state, factor in modes:
            arms = ["all"] if (device, mode) == ("cuda", "eager") else list(ARM_PARTS)
            for block in range(2):
                places = {arm: int(place) for arm, place in zip(arms, rng.permutation(len(arms)), strict=True)}
                for arm, emits, _ in itertools.product(arms, (True, False), range(iters)):
                    ms = sum(parts[part] for part in ARM_PARTS[arm]) + EMISSION_MS * emits
                    value = ms * factor * pace * (1 + noise / 4 * rng.standard_normal())
                    timing = {"mode": mode, "cache_state": cache_state, "process": process, "block": block}
                    rows.append(
                        {**cell, **clocks, **timing, "arm": arm, "emits": emits, "order": places[arm]}
                        | {"value_ns": round(1e6 * value)}
                    )
        if device == "cuda":
            base = {**cell, **clocks, "arm": "empty", "emits": False, "mode": "graph", "cache_state": "cold"}
            rows += [{**base, "process": process, "block": 0, "order": 9, "value_ns": 3400} for _ in range(iters)]
    return rows


def check_rows(backend: str, device: str, speedup: float, processes: int) -> Rows:
    """A correctness result per seed and, on CUDA, timed repetitions, of the candidate and of two packed variants."""
    rng, rows = np.random.default_rng(1), []
    grid = GRID if device == "cuda" else replace(GRID, rows=(GRID.cpu_rows,))
    axes = ("rows", "heads_per_group", "head_dim", "value_dim", "sel_count")
    times_us = {backend: 60.0 / speedup, "sdpa:gather": 60.0, "sdpa:varlen": 90.0}
    correct = {"mae": 1e-5, "oracle_error": 2e-3, "sdpa_oracle_error": 1.9e-3, "fault": None}
    for sizes in itertools.product(*(getattr(grid, axis) for axis in axes)):
        shape = {**dict(zip(axes, sizes, strict=True)), "sel_block": 64, "context": 4096, "groups": 4}
        for name, time_us in times_us.items():
            row = {**shape, "backend": name, "dtype": "bfloat16"}
            rows += [{**row, "seed": seed, **correct} for seed in range(grid.seeds)]
            for process, order in itertools.product(range(processes if device == "cuda" else 0), range(5)):
                pace = 1 + 0.002 * rng.standard_normal()
                rows.append({**row, "process": process, "order": order, "value_ns": round(1e3 * time_us * pace)})
    return rows


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty results folder."""
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def module_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """An empty results folder that the tests of a module share."""
    return Lab(tmp_path_factory.mktemp("results"))
