"""The figures of decode cells: the guide's columns with their intervals, and the same as a flat table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from nsa.records import parquet, schemas, words
from nsa.records.decode import DecodeFacts, Geometry, Reads
from nsa.records.facts import Device, Digests
from nsa.records.made import SummaryHeader
from nsa.records.words import OTHER, PARTS, TORCH_PARTS, VARIED, Scalar
from nsa.report.analysis.ceilings import ceilings
from nsa.report.analysis.read import Cell, primary_rows, read_cell, timed
from nsa.report.analysis.stats import NS_PER_MS, Estimate, half_tick_ns, interval, log_interval, process_times
from nsa.report.analysis.step_errors import wrong_variants
from nsa.report.analysis.validate import device_columns


@dataclass(frozen=True)
class ArmFigures:
    """What the arms of a cell say; times in ms, shares in per cent of ms_total (docs/decode_cell.md#arms)."""

    ms_total: Estimate
    ms_cmp: Estimate
    ms_sel: Estimate
    ms_win: Estimate
    ms_route: Estimate
    ms_fixed: Estimate
    ms_sel_loo: Estimate  # leave one out: the most that any selection kernel can win
    ms_interaction: Estimate
    cmp_pct: Estimate
    sel_pct: Estimate
    win_pct: Estimate
    sel_loo_pct: Estimate
    aa_ratio: Estimate  # T(all again) / T(all)


ESTIMATES = tuple(figure.name for figure in fields(ArmFigures))


@dataclass(frozen=True)
class CellFigures:
    """The figures of one cell that ran.

    Attributes:
        arms: in the primary mode; where packed SDPA has several variants, with the fastest of them.
        variant: the fastest variant, by ms_total; None of a backend without any.
        variants: the same figures with each variant that was timed, the fastest included.
        torch_parts: ms_total and sel_pct of the fastest variant, were compressed attention and routing torch operators;
            None where they are, or where that was not timed.
        ceilings: how many times as fast the step would be without each part.
        ms_total_warm: CUDA graph, caches warm; None where it was not timed, as the two that follow.
        ms_eager: wall time: what a host-bound user sees.
        empty_ms: an empty graph: the floor of the method.
        bandwidth_pct: bytes_read over ms_total, of the measured bandwidth; None where that was not measured.
        repetitions: of arm all in the primary mode, over all processes.
    """

    backend: str
    S: int
    facts: DecodeFacts
    arms: ArmFigures
    ms_total_warm: float | None
    ms_eager: float | None
    empty_ms: float | None
    bandwidth_pct: float | None
    repetitions: int
    variant: str | None = None
    variants: Mapping[str, ArmFigures] = field(default_factory=dict)
    torch_parts: tuple[Estimate, Estimate] | None = None
    ceilings: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def processes(self) -> int:
        """How many replicates there are."""
        return self.arms.ms_total.processes

    @property
    def device(self) -> Device:
        """What measured it."""
        return self.facts.device

    @property
    def geometry(self) -> Geometry:
        """The layer and the step."""
        return self.facts.geometry

    @property
    def reads(self) -> Reads:
        """KV tokens that the step touches."""
        return self.facts.reads


@dataclass(frozen=True)
class CellSummary:
    """A cell and its figures, None where it did not run or may not be used."""

    cell: Cell
    figures: CellFigures | None

    @property
    def backend(self) -> str:
        """Of which it is."""
        return self.cell.backend

    @property
    def S(self) -> int:
        """The tokens in its cache."""
        return self.cell.S


GUIDE = ("ms_total", "ms_cmp", "ms_sel", "ms_win", "reads_actual", "reads_expected")
SUMMARY = pa.schema(
    [
        ("S", pa.int32()),
        ("backend", pa.string()),
        *((name, pa.float64()) for name in GUIDE),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("fix", pa.string()),
        *((name, pa.float64()) for name in ESTIMATES if name not in GUIDE),
        *((f"{name}_{end}", pa.float64()) for name in ESTIMATES for end in ("lo", "hi")),
        ("ms_total_warm", pa.float64()),
        ("ms_eager", pa.float64()),
        ("empty_ms", pa.float64()),
        ("packed_variant", pa.string()),  # the fastest, whose figures these are
        *((f"reads_{part}", pa.float64()) for part in PARTS),
        ("bytes_read", pa.int64()),
        ("bandwidth_pct", pa.float64()),
        ("processes", pa.int32()),
        ("repetitions", pa.int32()),
        *(column for column in schemas.CELL if column[0] != "S"),
    ]
)


def collect(cells: Sequence[Path], out: Path, confidence: float, stamp: Digests | None = None) -> None:
    """Write the summary of some cells as one table, with the facts of those that ran in its header."""
    read = [read_cell(path) for path in cells]
    rows = [flat(summary) for summary in summarise(read, confidence)]
    facts = {cell.name: cell.facts for cell in read if cell.ok}
    parquet.write(out, rows, SUMMARY, SummaryHeader(confidence=confidence, cells=facts, stamp=stamp))


def summarise(cells: Iterable[Cell], confidence: float) -> list[CellSummary]:
    """Every cell with its figures, by backend and S."""
    ordered = sorted(cells, key=lambda cell: (cell.backend, cell.S))
    return [CellSummary(cell, figures(cell, confidence) if cell.ok else None) for cell in ordered]


def ran(summaries: Iterable[CellSummary]) -> list[CellFigures]:
    """The figures of the cells that have some, by S, in the given order of backends."""
    return sorted((each.figures for each in summaries if each.figures is not None), key=lambda each: each.S)


def figures(cell: Cell, confidence: float) -> CellFigures:
    """The figures of one cell that ran."""
    facts = cell.facts
    values = primary_rows(cell)
    times = process_times(values, facts.emit_weight)
    halves = {str(arm): half_tick_ns(each) / NS_PER_MS for arm, each in values.groupby("arm")["value_ns"]}
    wrong = wrong_variants(facts)
    variants = {name: arm_figures(times, confidence, name, halves) for name in facts.variants if name not in wrong}
    if facts.variant is not None:
        variants[facts.variant] = arm_figures(times, confidence, None, halves)
    variant = min(variants, key=lambda name: variants[name].ms_total.value, default=None)
    arms = arm_figures(times, confidence, None, halves) if variant is None else variants[variant]
    other = variant if variant in facts.variants else None
    bandwidths = facts.bandwidth_bytes_per_s
    moved = facts.bytes_read / (arms.ms_total.value / 1e3)  # bytes/s
    return CellFigures(
        backend=cell.backend,
        S=cell.S,
        facts=facts,
        arms=arms,
        variant=variant,
        variants=variants,
        torch_parts=with_torch_parts(times, other, confidence),
        ceilings=ceilings(arms_of(times, other), confidence),
        ms_total_warm=typical_ms(cell, "graph", "warm", other),
        ms_eager=typical_ms(cell, "eager", "warm", other),
        empty_ms=float(times[words.EMPTY].median()) if words.EMPTY in times else None,
        bandwidth_pct=100 * moved * len(bandwidths) / sum(bandwidths) if bandwidths else None,
        repetitions=int((values["arm"] == "all").sum()),
    )


def arm_figures(
    times: pd.DataFrame,
    confidence: float,
    variant: str | None = None,
    halves: Mapping[str, float] | None = None,
) -> ArmFigures:
    """The columns of docs/decode_cell.md#arms, from T_p(arm) [process, arm] in ms.

    Args:
        times: as process_times gives them.
        confidence: of the intervals.
        variant: whose selection the step has; None: the cell's own.
        halves: how far the clock's resolution may move each arm's times, in ms (`half_tick_ns`): no interval of a
            difference or a ratio is narrower than that; None where it does not matter.
    """
    arm = arms_of(times, variant)
    total, none = arm["all"], arm["none"]
    cmp, sel, win = (arm[part] - none for part in PARTS)
    route = arm["cmp_route"] - arm["cmp"]
    without = total - arm["all_without_sel"]
    own = dict.fromkeys(arm, 0.0) | dict(halves or {})
    half = own if variant is None else own | {name: own[f"{name}{OTHER}{variant}"] for name in VARIED}

    def difference(samples: NDArray[np.float64], *of: str) -> Estimate:
        return interval(samples, confidence, sum(half[name] for name in of))

    def share(samples: NDArray[np.float64], *of: str) -> Estimate:
        part = abs(float(np.mean(samples / total)))
        least = (sum(half[name] for name in of) + part * half["all"]) / float(np.mean(total))
        return interval(100 * samples / total, confidence, 100 * least)

    least = sum(own[name] / float(np.mean(times[name])) for name in ("all", "all_again"))
    every = ("all", "none", "none", "cmp_route", "sel", "win")  # what remains of the sum
    return ArmFigures(
        ms_total=log_interval(total, confidence),
        ms_cmp=difference(cmp, "cmp", "none"),
        ms_sel=difference(sel, "sel", "none"),
        ms_win=difference(win, "win", "none"),
        ms_route=difference(route, "cmp_route", "cmp"),
        ms_fixed=log_interval(none, confidence),
        ms_sel_loo=difference(without, "all", "all_without_sel"),
        ms_interaction=difference(total - none - route - (cmp + sel + win), *every),
        cmp_pct=share(cmp, "cmp", "none"),
        sel_pct=share(sel, "sel", "none"),
        win_pct=share(win, "win", "none"),
        sel_loo_pct=share(without, "all", "all_without_sel"),
        aa_ratio=log_interval(times["all_again"] / times["all"], confidence, least),
    )


def arms_of(times: pd.DataFrame, variant: str | None) -> dict[str, NDArray[np.float64]]:
    """T_p of every arm, those that a variant changes as that variant has them."""
    arm = {str(name): column.to_numpy(float) for name, column in times.items()}
    return arm if variant is None else arm | {name: arm[f"{name}{OTHER}{variant}"] for name in VARIED}


def with_torch_parts(times: pd.DataFrame, variant: str | None, confidence: float) -> tuple[Estimate, Estimate] | None:
    """ms_total and sel_pct, were compressed attention and routing torch operators; the selection is the variant's.

    That step is timed with the cell's own selection; what another one takes more or less is added to it.
    """
    slow = f"all{OTHER}{TORCH_PARTS}"
    if slow not in times:
        return None
    arm, own = arms_of(times, variant), arms_of(times, None)
    total = arm[slow] + arm["sel"] - own["sel"]
    return log_interval(total, confidence), interval(100 * (arm["sel"] - arm["none"]) / total, confidence)


def typical_ms(cell: Cell, mode: str, cache_state: str, variant: str | None) -> float | None:
    """T(all) in some mode, with a variant's selection or the cell's own; None where it was not timed."""
    arm = "all" if variant is None else f"all{OTHER}{variant}"
    values = timed(cell.rows, mode, cache_state)
    times = process_times(values[values["arm"] == arm], cell.facts.emit_weight)
    return math.exp(times[arm].map(math.log).mean()) if arm in times else None


def flat(summary: CellSummary) -> dict[str, Scalar]:
    """A cell as a row of SUMMARY: intervals as two columns, null where one process bounds nothing."""
    cell, found = summary.cell, summary.figures
    row: dict[str, Scalar] = dict.fromkeys(SUMMARY.names)
    row |= {"S": cell.S, "backend": cell.backend, "status": cell.status, "reason": cell.reason, "fix": cell.fix}
    row["device"] = cell.device.kind if cell.device else None
    if found is None:
        return row
    for name in ESTIMATES:
        estimate: Estimate = getattr(found.arms, name)
        row[name] = estimate.value
        row[f"{name}_lo"] = estimate.low if estimate.replicated else None
        row[f"{name}_hi"] = estimate.high if estimate.replicated else None
    return row | {
        "ms_total_warm": found.ms_total_warm,
        "ms_eager": found.ms_eager,
        "empty_ms": found.empty_ms,
        "packed_variant": found.variant,
        **{f"reads_{part}": tokens for part, tokens in found.reads.model_dump().items()},
        "bytes_read": found.facts.bytes_read,
        "bandwidth_pct": found.bandwidth_pct,
        "processes": found.processes,
        "repetitions": found.repetitions,
        **found.geometry.model_dump(),
        **device_columns(found.device),
    }
