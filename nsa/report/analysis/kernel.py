"""The acceptance grid: what a kernel check measured on each shape, before anything is decided."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nsa.config import AcceptThresholds, CheckSettings, GateSettings
from nsa.records.facts import CheckFacts
from nsa.records.grids import grid
from nsa.records.shapes import AXES, CONSTANT, GridShape
from nsa.records.words import ITEM_BYTES, VARIANT
from nsa.report.analysis.read import Record
from nsa.report.analysis.stats import Estimate, speedup
from nsa.settings import Positive, Settings

NS_PER_US = 1e3
FLOOR_SHARE = 0.95  # of the floor: the rates that it is made of are measured, too
# The worst row of packed SDPA that rounding explains, relative L2: a candidate may err twice as far as packed SDPA, and
# a broken one must not widen that. Measured on a CPU at N = 256, h = 8: at most 1.9e-6, 4.4e-4 and 3.3e-3.
PACKED_ERROR = {"float32": 2e-5, "float16": 1.5e-3, "bfloat16": 1e-2}


class Tolerance(Settings):
    """What makes an output correct: its MAE against packed SDPA, and its oracle error over that of packed SDPA."""

    mae: Positive
    error_ratio: Positive

    @classmethod
    def of(cls, thresholds: AcceptThresholds) -> Tolerance:
        """That of the accept gate."""
        return cls(mae=thresholds.mae, error_ratio=thresholds.error_ratio)


@dataclass(frozen=True)
class Correctness:
    """The worst figures over the seeds; NaN is worse than any figure."""

    seeds: int
    mae: float  # against packed SDPA
    oracle_error: float  # worst-row relative L2 against the float64 oracle
    sdpa_oracle_error: float  # the same of packed SDPA, on the seed with the worst excess
    fault: str | None  # the first correctness check that failed

    def failures(self, allowed: Tolerance) -> list[str]:
        """What is wrong, with its figures; empty when the results are correct."""
        found = [f"fault: {self.fault}"] if self.fault else []
        if self.fault and math.isnan(self.mae):
            return found  # it gave no output to compare
        if not self.mae <= allowed.mae:
            found.append(f"MAE {self.mae:.2g} > {allowed.mae:.2g}")
        if not self.oracle_error <= allowed.error_ratio * self.sdpa_oracle_error:
            ratio = f"{allowed.error_ratio:g} x {self.sdpa_oracle_error:.2g} of packed SDPA"
            found.append(f"oracle error {self.oracle_error:.2g} > {ratio}")
        return found


@dataclass(frozen=True)
class Measured:
    """One kernel on one shape: a candidate, or a packed SDPA variant.

    Attributes:
        rows: its timed repetitions.
        time_us: None when it was not timed.
        correctness: None when no seed gave a result.
    """

    rows: pd.DataFrame
    time_us: float | None
    correctness: Correctness | None

    def failures(self, allowed: Tolerance) -> list[str]:
        """What is wrong with its results; nothing where there are none."""
        return self.correctness.failures(allowed) if self.correctness else []

    def correct(self, allowed: Tolerance) -> bool:
        """Whether there are results, and all are right."""
        return self.correctness is not None and not self.failures(allowed)


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
    floor_us: float | None = None  # its selected K and V at the fastest that this memory moved; None without a rate

    @property
    def too_fast(self) -> bool:
        """Whether the kernel was faster than its bytes allow: it cannot have read them."""
        known = self.time_us is not None and self.floor_us is not None
        return known and (self.time_us or 0.0) < FLOOR_SHARE * (self.floor_us or 0.0)


def off_grid(record: Record[CheckFacts], settings: CheckSettings) -> str | None:
    """How the rows of an ok check differ from what the settings ask for; None where they do not."""
    shapes = grid(settings, record.facts.device.kind)
    found_shapes = {tuple(sizes) for sizes in record.rows[list(AXES)].drop_duplicates().astype(int).to_numpy()}
    if strange := sorted(found_shapes - {shape.sizes for shape in shapes}):
        return f"{GridShape(*map(int, strange[0]))} is no shape of the grid that the settings ask for"
    any_shape = shapes[0]
    for column in CONSTANT:
        value = getattr(any_shape, column)
        found = list(record.rows[column].unique())
        if found != [value]:
            return f"{column} is {', '.join(map(str, found)) or 'missing'}, and the settings ask for {value}"
    return None


def figures(record: Record[CheckFacts], settings: CheckSettings, gates: GateSettings) -> list[ShapeFigures]:
    """What an ok kernel check measured on every shape of the grid, those it lacks included."""
    allowed = Tolerance.of(gates.accept)
    return [
        shape_figures(record.backend, shape, found, allowed, gates.confidence, floor_us(record.facts, shape, settings))
        for shape, found in measured(record, settings, gates).items()
    ]


def measured(
    record: Record[CheckFacts], settings: CheckSettings, gates: GateSettings
) -> dict[GridShape, dict[str, Measured]]:
    """Every kernel of an ok check on every shape of the grid, by the name that its rows have."""
    by_shape = dict(iter(record.rows.groupby(list(AXES))))
    found = {}
    for shape in grid(settings, record.facts.device.kind):
        here = by_shape.get(shape.sizes, record.rows[:0])
        found[GridShape(*shape.sizes)] = {
            str(name): measure(rows, gates.accept.error_ratio) for name, rows in here.groupby("backend")
        }
    return found


def measure(rows: pd.DataFrame, error_ratio: float) -> Measured:
    """What the rows of one kernel on one shape say."""
    timed = rows[rows["value_ns"].notna()]
    return Measured(timed, typical_us(timed) if len(timed) else None, worst(rows, error_ratio))


def shape_figures(
    backend: str,
    shape: GridShape,
    found: dict[str, Measured],
    allowed: Tolerance,
    confidence: float,
    floor: float | None = None,
) -> ShapeFigures:
    """The figures of one shape; packed variants compete only when they pass the same correctness thresholds."""
    times, excluded = {}, []
    for name, variant in found.items():
        if not name.startswith(VARIANT) or variant.time_us is None:
            continue
        if variant.correct(allowed):
            times[name] = variant.time_us
        else:
            excluded.append(name.removeprefix(VARIANT))
    winner = min(times, key=times.__getitem__) if times else None
    candidate = found.get(backend)
    known = candidate is not None and candidate.time_us is not None
    return ShapeFigures(
        shape=shape,
        correctness=candidate.correctness if candidate else None,
        time_us=candidate.time_us if candidate else None,
        winner=winner.removeprefix(VARIANT) if winner else None,
        winner_us=times[winner] if winner else None,
        speedup=speedup(found[winner].rows, candidate.rows, confidence) if winner and candidate and known else None,
        excluded=tuple(excluded),
        floor_us=floor,
    )


def floor_us(facts: CheckFacts, shape: GridShape, settings: CheckSettings) -> float | None:
    """The time in which this run's memory can move a shape's selected K and V, each once; None where no rate is known.

    The rate is the larger of the copy's and of reading alone: an honest kernel that only reads may beat the copy.
    """
    rates = (*facts.bandwidth_bytes_per_s, *facts.read_bandwidth_bytes_per_s)
    if not rates:
        return None
    blocks = -(-settings.context // settings.sel_block)
    beyond = blocks * settings.sel_block - settings.context  # of the last block, which is always among the selected
    tokens = min(shape.sel_count, blocks) * settings.sel_block - beyond
    moved = shape.rows * tokens * (shape.head_dim + shape.value_dim) * ITEM_BYTES[facts.dtype]
    return moved / max(rates) * 1e6


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
