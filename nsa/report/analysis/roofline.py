"""The figures of the roofline stage's record: each backend on each shape beside the floor, packed SDPA and others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from nsa.config import Target
from nsa.errors import RecordError
from nsa.records import parquet, schemas
from nsa.records.facts import RooflineFacts, State
from nsa.records.outcome import Header, Ok
from nsa.records.shapes import AXES, GridShape
from nsa.records.words import BASELINE, CONTROLS, EMPTY, REFUSED
from nsa.report.analysis.kernel import NS_PER_US, Tolerance, worst
from nsa.report.analysis.read import Record, Stamps, has_result, invalid, judged
from nsa.report.analysis.rows import to_frame
from nsa.report.analysis.stats import Estimate, log_interval
from nsa.report.analysis.validate import (
    require_constant,
    require_device,
    require_identity,
    require_positive,
    require_processes,
)
from nsa.settings import Settings

STAGE = "roofline"  # and how its record is called
PUBLIC = Path(__file__).parent / "public_kernels" / "h200.csv"
PUBLIC_AMONG = {"cuda": "any", "triton": "triton"}  # which public kernels a backend is compared with
SIZES = (*AXES, "sel_block", "context", "groups")
SHAPELESS = (EMPTY, *CONTROLS)  # what is timed beside the shapes
ORDER = ["rows", "head_dim", "sel_count", "heads_per_group"]  # of the table's lines


class RooflineReport(Settings):
    """What the table is made with, as in the stage's stamp: read it with nsa.settings.parse.

    Attributes:
        targets: of the backends that have one.
        correct: what makes an output correct.
        confidence: of the intervals.
    """

    targets: dict[str, Target]
    correct: Tolerance
    confidence: float


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

    record: Record[RooflineFacts]
    states: Mapping[str, State]  # of every backend, packed SDPA first
    figures: Mapping[str, tuple[Figure, ...]]  # in the same order of shapes for each backend
    bandwidths: tuple[float, ...]  # bytes/s, before and after each process
    empty_us: Estimate
    public: pd.DataFrame  # the figures of public kernels for these shapes on this model of GPU; of another run


def read_roofline(path: Path, stamps: Stamps | None = None) -> Record[RooflineFacts]:
    """Read `roofline.parquet`; a fault becomes the record's outcome."""
    try:
        table, header = parquet.read(path, Header[RooflineFacts], schemas.ROOFLINE)
        require_identity(path, header, STAGE, None)
        rows = to_frame(table.append_column("has_result", has_result(table)))
        if isinstance(header.outcome, Ok):
            require_device(path, header.device, header.outcome.facts.device)
            require_sound(path, header.outcome.facts, rows)
    except RecordError as error:
        return Record(STAGE, STAGE, invalid(path, error))
    return judged(STAGE, STAGE, STAGE, header, path, stamps, rows)


def require_sound(path: Path, facts: RooflineFacts, rows: pd.DataFrame) -> None:
    """Raise a RecordError unless an ok record has bandwidths, times and bytes that figures can be made of."""
    bandwidths = np.asarray(facts.bandwidth_bytes_per_s or [math.nan], dtype=float)
    if not (np.isfinite(bandwidths) & (bandwidths > 0)).all():
        raise RecordError(f"{path}: bandwidth_bytes_per_s is {bandwidths.tolist()}, expected numbers above 0; rerun")
    if BASELINE not in facts.backends or facts.backends[BASELINE].status != "ok":
        raise RecordError(f"{path}: status ok, but {BASELINE}, the reference, is not among its backends; rerun")
    shaped = rows[~rows["backend"].isin(SHAPELESS)]
    if not (shaped["selected_bytes"] > 0).all():  # a null is none
        raise RecordError(f"{path}: a shape has no selected_bytes above 0; rerun")
    require_positive(path, rows)
    require_constant(path, shaped)
    require_processes(path, rows, facts.replicates)
    timed = rows[rows["value_ns"].notna()]
    for name in (EMPTY, BASELINE):
        if name not in set(timed["backend"]):
            raise RecordError(f"{path}: status ok, but {name} was not timed; rerun")


def roofline(record: Record[RooflineFacts], settings: RooflineReport) -> Roofline:
    """The figures of an ok record; a time counts only where the backend's timed outputs are correct."""
    shaped = record.rows[~record.rows["backend"].isin(SHAPELESS)].astype(dict.fromkeys(SIZES, int))
    bandwidths = record.facts.bandwidth_bytes_per_s
    bandwidth = float(np.mean(bandwidths))
    public = public_kernels(shaped, record.facts.device.name)
    best = {
        (row["among"], GridShape(*(row[axis] for axis in AXES))): float(row["time_us"]) for _, row in public.iterrows()
    }
    by_case = dict(iter(shaped.groupby(["backend", *AXES])))
    by_shape = shaped.sort_values(ORDER).groupby(list(AXES), sort=False)["selected_bytes"].max().reset_index()
    floors_us = {GridShape(*row[:-1]): row[-1] / bandwidth * 1e6 for row in by_shape.itertuples(index=False)}

    def figure(backend: str, shape: GridShape) -> Figure:
        rows, packed = (by_case.get((name, *shape.sizes), shaped[:0]) for name in (backend, BASELINE))
        target = settings.targets.get(backend)
        fault = fault_of(rows, settings.correct)
        return Figure(
            shape=shape,
            fault=fault,
            times_us=medians_us(rows[:0] if fault else rows),
            packed_us=medians_us(packed[:0] if backend == BASELINE else packed),
            floor_us=floors_us[shape],
            target_us=None if target is None else target.ratio * floors_us[shape] + target.plus_us,
            public_us=best.get((PUBLIC_AMONG.get(backend, ""), shape)),
            confidence=settings.confidence,
        )

    known = record.facts.backends
    states = {backend: known[backend] for backend in sorted(known, key=lambda name: (name != BASELINE, name))}
    ran = [backend for backend, state in states.items() if state.status == "ok"]
    figures = {backend: tuple(figure(backend, shape) for shape in floors_us) for backend in ran}
    empty = medians_us(record.rows[record.rows["backend"] == EMPTY])
    return Roofline(record, states, figures, bandwidths, log_interval(empty, settings.confidence), public)


def medians_us(rows: pd.DataFrame) -> pd.Series[float]:
    """The median of each process."""
    return rows[rows["value_ns"].notna()].groupby("process")["value_ns"].median() / NS_PER_US


def fault_of(rows: pd.DataFrame, correct: Tolerance) -> str | None:
    """Why the times of one backend on one shape do not count; None when they do."""
    result = worst(rows, correct.error_ratio)
    if result is None or (result.fault is None and rows["value_ns"].isna().all()):
        return "not timed"
    if (result.fault or "").startswith(REFUSED):
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
