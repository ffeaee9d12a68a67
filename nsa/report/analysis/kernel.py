"""The acceptance grid: what a kernel check measured on each shape, before anything is decided."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
import pandas as pd

from nsa.config import CheckSettings
from nsa.report.analysis.read import Record
from nsa.report.analysis.stats import Estimate, speedup

NS_PER_US = 1e3
VARIANT = "sdpa:"  # the packed SDPA variants that compete are recorded under this prefix


@dataclass(frozen=True)
class GridShape:
    """One shape of the grid (guide, "Acceptance Gate"); the guide's N is rows and its H is heads_per_group."""

    rows: int
    heads_per_group: int
    head_dim: int
    value_dim: int
    sel_count: int

    def __str__(self) -> str:
        return f"N={self.rows} h={self.heads_per_group} D={self.head_dim} Dv={self.value_dim} n={self.sel_count}"


AXES = tuple(axis.name for axis in fields(GridShape))  # the columns that name a shape


@dataclass(frozen=True)
class Correctness:
    """The worst figures over the seeds; NaN is worse than any figure."""

    seeds: int
    mae: float  # against packed SDPA
    oracle_error: float  # worst-row relative L2 against the float64 oracle
    sdpa_oracle_error: float  # the same of packed SDPA, on the seed with the worst excess
    fault: str | None  # the first correctness check that failed

    def failures(self, thresholds: Mapping[str, float]) -> list[str]:
        """What is wrong, with its figures; empty when the results are correct."""
        found = [f"fault: {self.fault}"] if self.fault else []
        if self.fault and math.isnan(self.mae):
            return found  # it gave no output to compare
        if not self.mae <= thresholds["mae"]:
            found.append(f"MAE {self.mae:.2g} > {thresholds['mae']:.2g}")
        allowed = thresholds["error_ratio"] * self.sdpa_oracle_error
        if not self.oracle_error <= allowed:
            ratio = f"{thresholds['error_ratio']:g} x {self.sdpa_oracle_error:.2g} of packed SDPA"
            found.append(f"oracle error {self.oracle_error:.2g} > {ratio}")
        return found


@dataclass(frozen=True)
class ShapeFigures:
    """What was measured on one shape."""

    shape: GridShape
    correctness: Correctness | None  # None when no seed gave a result
    time_us: float | None  # None when it was not timed
    winner: str | None  # the fastest correct packed SDPA variant
    winner_us: float | None
    speedup: Estimate | None  # of the candidate over the winner
    excluded: tuple[str, ...] = ()  # variants that were timed but are not correct


def shapes(settings: CheckSettings, device: str | None) -> list[GridShape]:
    """The grid's shapes on this device: without a GPU a few rows stand for the grid's."""
    rows: Sequence[int] = settings.rows if device == "cuda" else (settings.cpu_rows,)
    sizes = (rows if axis == "rows" else getattr(settings, axis) for axis in AXES)
    return [GridShape(*shape) for shape in itertools.product(*sizes)]


def figures(
    record: Record, settings: CheckSettings, thresholds: Mapping[str, float], confidence: float
) -> list[ShapeFigures]:
    """What a kernel check measured on every shape of the grid, those it lacks included."""
    by_shape = dict(iter(record.rows.groupby(list(AXES))))
    return [
        shape_figures(record.backend, shape, by_shape.get(astuple(shape), record.rows[:0]), thresholds, confidence)
        for shape in shapes(settings, record.device)
    ]


def shape_figures(
    backend: str, shape: GridShape, rows: pd.DataFrame, thresholds: Mapping[str, float], confidence: float
) -> ShapeFigures:
    """The figures of one shape; packed variants compete only when they pass the same correctness thresholds."""
    candidate = rows[rows["backend"] == backend]
    time_ns = candidate[candidate["value_ns"].notna()]
    correct, excluded = {}, []
    for name, variant in rows[rows["backend"].str.startswith(VARIANT)].groupby("backend"):
        timed = variant[variant["value_ns"].notna()]
        if timed.empty:
            continue
        result = worst(variant, thresholds["error_ratio"])
        if result is not None and not result.failures(thresholds):
            correct[str(name).removeprefix(VARIANT)] = timed
        else:
            excluded.append(str(name).removeprefix(VARIANT))
    times = {name: typical_us(timed) for name, timed in correct.items()}
    winner = min(times, key=times.__getitem__) if times else None
    return ShapeFigures(
        shape=shape,
        correctness=worst(candidate, thresholds["error_ratio"]),
        time_us=typical_us(time_ns) if len(time_ns) else None,
        winner=winner,
        winner_us=times[winner] if winner else None,
        speedup=speedup(correct[winner], time_ns, confidence) if winner and len(time_ns) else None,
        excluded=tuple(excluded),
    )


def typical_us(rows: pd.DataFrame) -> float:
    """The geometric mean over processes of each process's median."""
    return math.exp(np.log(rows.groupby("process")["value_ns"].median()).mean()) / NS_PER_US


def worst(rows: pd.DataFrame, error_ratio: float) -> Correctness | None:
    """The worst figures of one backend on one shape; None when no row holds a correctness result."""
    results = rows[rows["has_result"]]
    if results.empty:
        return None
    faults = results["fault"].dropna()
    excess = results["oracle_error"] - error_ratio * results["sdpa_oracle_error"]
    worst_row = results.iloc[excess.to_numpy().argmax()]  # NumPy's argmax puts a NaN first
    return Correctness(
        seeds=int(results["seed"].nunique()),
        mae=float(results["mae"].max(skipna=False)),
        oracle_error=float(worst_row["oracle_error"]),
        sdpa_oracle_error=float(worst_row["sdpa_oracle_error"]),
        fault=None if faults.empty else str(faults.iloc[0]),
    )
