"""The core check: what it measured of a decode core on each shape, beside dense attention."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nsa.config import CoreSettings
from nsa.errors import RecordError
from nsa.records import parquet, schemas
from nsa.records.facts import CoreFacts
from nsa.records.grids import core_grid
from nsa.records.outcome import Header, Ok
from nsa.records.shapes import CORE_AXES, CoreShape
from nsa.records.words import COMPOSED, CONTROLS, DENSE, EMPTY, REFUSED, TIMED, UNSEEN
from nsa.report.analysis.corners import FLOOR
from nsa.report.analysis.kernel import FLOOR_SHARE, PACKED_ERROR
from nsa.report.analysis.read import Record, Stamps, invalid, judged
from nsa.report.analysis.roofline import medians_us
from nsa.report.analysis.rows import to_frame
from nsa.report.analysis.stats import Estimate, log_interval, speedup
from nsa.report.analysis.validate import (
    require_columns,
    require_device,
    require_identity,
    require_positive,
    require_processes,
)
from nsa.report.analysis.whole import require_errors, require_rates, require_whole_core

ON_GRID = (TIMED, UNSEEN)


@dataclass(frozen=True)
class Rival:
    """What a core is compared with on one shape: a kernel of dense attention, or the composed core."""

    name: str
    time_us: Estimate | None
    fault: str | None  # why its time does not count


@dataclass(frozen=True)
class CoreFigures:
    """What was measured of a core on one shape.

    Attributes:
        faults: what is wrong with its results, each with its figures; None where there are no results.
        error, composed_error: of the timed calls, the worst of all processes; NaN where there is none.
        floor_us, rate: its bytes over the copy bandwidth, and the bytes per second that it reached over that bandwidth.
        too_fast: by how many µs it takes less than its bytes allow at the fastest rate; None where it does not.
        dense: every kernel of dense attention that was timed.
        winner: the fastest correct one of these.
        speedup: of the core over it.
    """

    shape: CoreShape
    faults: tuple[str, ...] | None
    error: float
    composed_error: float
    time_us: Estimate | None
    floor_us: float | None
    rate: float | None
    too_fast: str | None
    composed: Rival | None
    dense: tuple[Rival, ...]
    winner: Rival | None
    speedup: Estimate | None


@dataclass(frozen=True)
class CoreCorner:
    """What one corner case says of a core."""

    case: str
    seed: int
    fault: str | None
    refused: bool


def core_name(backend: str) -> str:
    """The name of a core check, like its path."""
    return f"core/{backend}"


def read_core(path: Path, stamps: Stamps | None = None, stage: str = "core") -> Record[CoreFacts]:
    """Read `core/{backend}.parquet`, or that of the stage `core_curve`; a fault becomes the record's outcome."""
    backend = path.stem
    name = f"{stage}/{backend}"
    try:
        table, header = parquet.read(path, Header[CoreFacts], schemas.CORE)
        require_identity(path, header, stage, backend)
        rows = to_frame(table)
        if isinstance(header.outcome, Ok):
            facts = header.outcome.facts
            require_device(path, header.device, facts.device)
            require_processes(path, rows, facts.replicates)
            on_grid = rows[rows["case"].isna() | rows["case"].isin(ON_GRID)]
            require_columns(path, on_grid, {"dtype": facts.dtype})
            require_positive(path, rows)
            require_rates(path, facts)
            require_errors(path, rows, "error", "composed_error")
            require_judged_rows(path, rows)
            if facts.device.kind == "cuda":
                require_whole_core(path, rows, backend, unseen=stage == "core")
    except RecordError as error:
        return Record(backend, name, invalid(path, error))
    return judged(backend, name, f"{stage}-{backend}", header, path, stamps, rows)


def require_judged_rows(path: Path, rows: pd.DataFrame) -> None:
    """What was timed on a shape was judged in the same process: no time counts whose outputs nobody has looked at."""
    timed = rows[rows["value_ns"].notna() & ~rows["backend"].isin((EMPTY, *CONTROLS))]
    key = [*CORE_AXES, "process", "backend"]
    looked = rows[rows["case"] == TIMED]
    judged_keys = set(map(tuple, looked[key].itertuples(index=False)))
    for found in timed[key].drop_duplicates().itertuples(index=False):
        backend = str(found[-1])
        named = (*found[:-1], backend.partition("again:")[2] or backend)
        if named not in judged_keys:
            raise RecordError(f"{path}: {backend} was timed in process {found[-2]} and not judged; delete it and rerun")


def off_core_grid(record: Record[CoreFacts], settings: CoreSettings) -> str | None:
    """How the shapes of an ok check differ from those that the settings ask for; None where they do not."""
    rows = record.rows[record.rows["case"].isin(ON_GRID)]
    found = {CoreShape.of(sizes) for sizes in rows[list(CORE_AXES)].drop_duplicates().itertuples(index=False)}
    strange = found - set(core_grid(settings, record.facts.device.kind))
    return f"{min(map(str, strange))} is no shape of the grid that the settings ask for" if strange else None


def core_figures(
    record: Record[CoreFacts], settings: CoreSettings, error_ratio: float, confidence: float
) -> list[CoreFigures]:
    """What an ok core check measured on every shape of the grid, those that it lacks included."""
    rows = record.rows[record.rows["case"].isna() | record.rows["case"].isin(ON_GRID)]
    by_shape = {CoreShape.of(sizes): part for sizes, part in rows.groupby(list(CORE_AXES))}
    return [
        _figures(record, shape, by_shape.get(shape, rows[:0]), error_ratio, confidence)
        for shape in core_grid(settings, record.facts.device.kind)
    ]


def _figures(
    record: Record[CoreFacts], shape: CoreShape, rows: pd.DataFrame, error_ratio: float, confidence: float
) -> CoreFigures:
    by_name = {str(name): part for name, part in rows.groupby("backend")}
    mine = by_name.get(record.backend, rows[:0])
    results, timed = mine[mine["case"].notna()], mine[mine["value_ns"].notna()]
    judged_timed = results[results["case"] == TIMED]
    rivals = {name: _rival(name, part, confidence) for name, part in by_name.items()}
    dense = tuple(rival for name, rival in rivals.items() if name.startswith(DENSE))
    able = [rival for rival in dense if rival.time_us is not None and rival.fault is None]
    winner = min(able, key=lambda rival: rival.time_us.value if rival.time_us else math.inf, default=None)
    beaten = by_name[winner.name][by_name[winner.name]["value_ns"].notna()] if winner else rows[:0]
    time_us = log_interval(medians_us(mine), confidence) if len(timed) else None
    facts, moved = record.facts, float(mine["floor_bytes"].max()) if len(timed) else math.nan
    floor_us = rate = too_fast = None
    if time_us is not None and facts.bandwidth_bytes_per_s:
        copy = float(np.mean(facts.bandwidth_bytes_per_s))
        floor_us, rate = moved / copy * 1e6, moved / (time_us.value * 1e-6) / copy
        least = FLOOR_SHARE * moved / max(*facts.bandwidth_bytes_per_s, *facts.read_bandwidth_bytes_per_s) * 1e6
        if time_us.value < least:
            too_fast = f"{time_us.value:.3g} µs, and this memory needs {least:.3g} for its bytes alone"
    return CoreFigures(
        shape=shape,
        faults=tuple(core_faults(results, error_ratio)) if len(results) else None,
        error=float(judged_timed["error"].max(skipna=False)) if len(judged_timed) else math.nan,
        composed_error=float(judged_timed["composed_error"].max(skipna=False)) if len(judged_timed) else math.nan,
        time_us=time_us,
        floor_us=floor_us,
        rate=rate,
        too_fast=too_fast,
        composed=rivals.get(COMPOSED),
        dense=dense,
        winner=winner,
        speedup=speedup(beaten, timed, confidence) if winner and len(timed) else None,
    )


def _rival(name: str, rows: pd.DataFrame, confidence: float) -> Rival:
    """What the rows of one rival say; rounding alone explains an error up to that of packed SDPA's cap."""
    times = medians_us(rows)
    results = rows[rows["case"].notna()]
    said = results["fault"].dropna()
    cap = PACKED_ERROR[str(rows["dtype"].iloc[0])]
    fault = str(said.iloc[0]) if len(said) else None
    if fault is None and not bool((results["error"] <= cap).all()):
        fault = f"error {results['error'].max(skipna=False):.2g} > {cap:g}"
    return Rival(name, log_interval(times, confidence) if len(times) else None, fault)


def core_faults(results: pd.DataFrame, error_ratio: float) -> list[str]:
    """What is wrong in rows that hold results of a core: one phrase each, the first of its kind."""
    found = []
    for row in results.to_dict("records"):
        where = f"process {row['process']}, {row['case']} inputs with {row['keys']} keys"
        if row["fault"] is not None and not (isinstance(row["fault"], float) and math.isnan(row["fault"])):
            found.append(f"{row['fault']} ({where})")
            continue
        error, composed = float(row["error"]), float(row["composed_error"])
        allowed = error_ratio * composed if math.isfinite(composed) else 0.0
        if row["case"] != TIMED:  # few rows, where the composed core may round by luck to less than an honest one
            allowed = max(allowed, FLOOR[str(row["dtype"])])
        if not error <= allowed:
            found.append(f"error {error:.2g} > {allowed:.2g}, that of the composed core is {composed:.2g} ({where})")
    return found


def core_corners(record: Record[CoreFacts], error_ratio: float) -> tuple[CoreCorner, ...]:
    """Every corner case of an ok core check, in the order of its rows."""
    rows = record.rows[record.rows["case"].notna() & ~record.rows["case"].isin(ON_GRID)]
    found = []
    for case, part in rows.groupby("case", sort=False):
        faults = core_faults(part, error_ratio)
        refused = bool(faults) and all(fault.startswith(REFUSED) for fault in faults)
        found.append(CoreCorner(str(case), int(part["seed"].iloc[0]), faults[0] if faults else None, refused))
    return tuple(found)
