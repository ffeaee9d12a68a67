"""The figures of the roofline stage's record: each backend on each shape beside the floor, packed SDPA and others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nsa.config import Target
from nsa.errors import RecordError
from nsa.records import parquet, schemas
from nsa.report.analysis.kernel import AXES, NS_PER_US, GridShape, worst
from nsa.report.analysis.read import Record, Stamps, has_result, judge, require_identity
from nsa.report.analysis.stats import Estimate, log_interval

PACKED, EMPTY = "sdpa", "empty"
PUBLIC = Path(__file__).parent / "public_kernels" / "h200.csv"
PUBLIC_AMONG = {"cuda": "any", "triton": "triton"}  # which public kernels a backend is compared with
SIZES = (*AXES, "sel_block", "context", "groups")
ORDER = ["rows", "head_dim", "sel_count", "heads_per_group"]  # of the table's lines


@dataclass(frozen=True)
class RooflineReport:
    """What the table is made with: the targets, what makes an output correct, the confidence of the intervals."""

    targets: Mapping[str, Target]
    correct: Mapping[str, float]
    confidence: float

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> RooflineReport:
        """Build from the settings of the stage's stamp."""
        targets = {backend: Target(**target) for backend, target in settings["targets"].items()}
        return cls(targets, settings["correct"], settings["confidence"])


@dataclass(frozen=True)
class Figure:
    """One backend on one shape.

    Attributes:
        fault: why no time of it counts: it refused the shape, or its timed outputs are wrong.
        times_us: the median of each process; empty where there is a fault.
        packed_us: the same of packed SDPA, in the same processes; empty for packed SDPA itself.
        target_us, public_us: what it shall reach, and the best public kernel's figure; None where there is none.
    """

    shape: GridShape
    fault: str | None
    times_us: pd.Series[float]
    packed_us: pd.Series[float]
    floor_us: float
    target_us: float | None
    public_us: float | None
    confidence: float

    @cached_property
    def time_us(self) -> Estimate | None:
        """The geometric mean over the processes, with its interval."""
        return None if self.fault else log_interval(self.times_us, self.confidence)

    @property
    def over_floor(self) -> float | None:
        """The time over the floor."""
        return None if self.time_us is None else self.time_us.value / self.floor_us

    @property
    def excess_us(self) -> float | None:
        """By how much the target is missed; at most 0 where it is met."""
        return None if self.time_us is None or self.target_us is None else self.time_us.value - self.target_us

    @property
    def surely_met(self) -> bool:
        """Whether the whole interval is within the target."""
        return self.time_us is not None and self.target_us is not None and self.time_us.high <= self.target_us

    @property
    def over_packed(self) -> pd.Series[float]:
        """How many times as fast as packed SDPA, in each process; empty where there is nothing to compare."""
        return (self.packed_us / self.times_us).dropna()

    @property
    def over_public(self) -> pd.Series[float]:
        """How many times as fast as the best public kernel, in each process; empty where there is no figure of one."""
        return (self.times_us.rdiv(math.nan if self.public_us is None else self.public_us)).dropna()


@dataclass(frozen=True)
class Roofline:
    """What one run says: the figures of every backend that ran, shape by shape, and what they stand on."""

    record: Record
    states: Mapping[str, Mapping[str, str | None]]  # status, reason and fix of every backend, packed SDPA first
    figures: Mapping[str, tuple[Figure, ...]]  # in the same order of shapes for each backend
    bandwidths: tuple[float, ...]  # bytes/s, before and after each process
    empty_us: Estimate
    public: pd.DataFrame  # the figures of public kernels for these shapes on this model of GPU; of another run


def read_roofline(path: Path, stamps: Stamps | None = None) -> Record:
    """Read `roofline.parquet`; a fault becomes the record's status."""
    try:
        table, facts = parquet.read(path, schemas.ROOFLINE)
        require_identity(path, facts, {"stage": "roofline"})
        rows = table.append_column("has_result", has_result(table)).to_pandas()
        if facts["status"] == "ok":
            require_sound(path, facts, rows)
    except RecordError as error:
        return Record("roofline", "invalid", str(error), f"delete {path} and rerun")
    status, reason, fix = judge(facts, "roofline", path, stamps)
    return Record("roofline", status, reason, fix, facts, rows if status == "ok" else rows[:0])


def require_sound(path: Path, facts: Mapping[str, Any], rows: pd.DataFrame) -> None:
    """Raise a RecordError unless an ok record has bandwidths, times and bytes that figures can be made of."""
    bandwidths = np.asarray(facts.get("bandwidth_bytes_per_s") or [math.nan], dtype=float)
    if not (np.isfinite(bandwidths) & (bandwidths > 0)).all():
        raise RecordError(f"{path}: bandwidth_bytes_per_s is {bandwidths.tolist()}, expected numbers above 0; rerun")
    if (facts.get("backends") or {}).get(PACKED, {}).get("status") != "ok":
        raise RecordError(f"{path}: status ok, but {PACKED}, the reference, is not among its backends; rerun")
    shaped = rows[rows["backend"] != EMPTY]
    if not (shaped["selected_bytes"] > 0).all():  # a null is none
        raise RecordError(f"{path}: a shape has no selected_bytes above 0; rerun")
    timed = rows[rows["value_ns"].notna()]
    if not (timed["value_ns"] > 0).all() or timed["process"].isna().any():
        raise RecordError(f"{path}: a value_ns is not above 0, or of no process; rerun")
    for name in (EMPTY, PACKED):
        if name not in set(timed["backend"]):
            raise RecordError(f"{path}: status ok, but {name} was not timed; rerun")


def roofline(record: Record, settings: RooflineReport) -> Roofline:
    """The figures of an ok record; a time counts only where the backend's timed outputs are correct."""
    shaped = record.rows[record.rows["backend"] != EMPTY].astype(dict.fromkeys(SIZES, int))
    bandwidths = tuple(float(value) for pair in record.facts["bandwidth_bytes_per_s"] for value in pair)
    bandwidth = float(np.mean(bandwidths))
    public = public_kernels(shaped, record.facts["device_name"])
    best = {
        (row["among"], GridShape(*(row[axis] for axis in AXES))): float(row["time_us"]) for _, row in public.iterrows()
    }
    by_case = dict(iter(shaped.groupby(["backend", *AXES])))
    by_shape = shaped.sort_values(ORDER).groupby(list(AXES), sort=False)["selected_bytes"].max().reset_index()
    floors_us = {GridShape(*row[:-1]): row[-1] / bandwidth * 1e6 for row in by_shape.itertuples(index=False)}

    def figure(backend: str, shape: GridShape) -> Figure:
        rows, packed = (by_case.get((name, *astuple(shape)), shaped[:0]) for name in (backend, PACKED))
        target = settings.targets.get(backend)
        fault = fault_of(rows, settings.correct)
        return Figure(
            shape=shape,
            fault=fault,
            times_us=medians_us(rows[:0] if fault else rows),
            packed_us=medians_us(packed[:0] if backend == PACKED else packed),
            floor_us=floors_us[shape],
            target_us=None if target is None else target.ratio * floors_us[shape] + target.plus_us,
            public_us=best.get((PUBLIC_AMONG.get(backend, ""), shape)),
            confidence=settings.confidence,
        )

    known = record.facts["backends"]
    states = {backend: known[backend] for backend in sorted(known, key=lambda name: (name != PACKED, name))}
    ran = [backend for backend, state in states.items() if state["status"] == "ok"]
    figures = {backend: tuple(figure(backend, shape) for shape in floors_us) for backend in ran}
    empty = medians_us(record.rows[record.rows["backend"] == EMPTY])
    return Roofline(record, states, figures, bandwidths, log_interval(empty, settings.confidence), public)


def medians_us(rows: pd.DataFrame) -> pd.Series[float]:
    """The median of each process."""
    return rows[rows["value_ns"].notna()].groupby("process")["value_ns"].median() / NS_PER_US


def fault_of(rows: pd.DataFrame, correct: Mapping[str, float]) -> str | None:
    """Why the times of one backend on one shape do not count; None when they do."""
    result = worst(rows, correct["error_ratio"])
    if result is None or (result.fault is None and rows["value_ns"].isna().all()):
        return "not timed"
    if (result.fault or "").startswith("refused: "):
        return result.fault
    failures = result.failures(correct)
    return f"WRONG: {', '.join(failures)}" if failures else None


def public_kernels(shaped: pd.DataFrame, device_name: str) -> pd.DataFrame:
    """The best public kernel's figure for each shape, among any or Triton's; none for another model of GPU."""
    known = pd.read_csv(PUBLIC)
    return known[known["machine"] == device_name].merge(shaped[[*SIZES, "dtype"]].drop_duplicates())


def geometric(ratios: pd.Series[float]) -> float | None:
    """The geometric mean; None of nothing."""
    return float(np.exp(np.log(ratios).mean())) if len(ratios) else None


def over_shapes(ratios: Sequence[pd.Series[float]], confidence: float) -> Estimate:
    """The geometric mean over shapes in each process, then over the processes, with its interval."""
    return log_interval(np.exp(np.log(pd.DataFrame(list(ratios))).mean()), confidence)
