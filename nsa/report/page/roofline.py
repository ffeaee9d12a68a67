"""results/roofline.md: how far each backend's kernel is from the memory floor, on every shape and in sum."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nsa.layout import Layout
from nsa.records import files
from nsa.records.facts import RooflineFacts
from nsa.records.shapes import AXES
from nsa.records.words import BASELINE
from nsa.report.analysis.read import Record, Stamps
from nsa.report.analysis.roofline import (
    Figure,
    Roofline,
    RooflineReport,
    geometric,
    over_shapes,
    read_roofline,
    roofline,
)
from nsa.report.page.dram import Absent, not_counted
from nsa.report.page.tables import MISSING, Table, bracketed, plain, significant
from nsa.report.verdict.gates import outcome_words, percent
from nsa.report.verdict.warnings import other_processes

SUMMARY = ("backend", "N", "within target", "worst miss µs", "× packed", "least", "× public", "least")
METHOD = """Cold L2, one CUDA-graph replay a call, between events; each round takes the shapes in random order, and on \
each the kernels in random order."""
KEY = """Within target: by the value shown, and in parentheses by its whole interval. × packed and × public: how many \
times as fast, geometric mean over the shapes; least: where it is smallest."""


def report(path: Path, stamps: Stamps, settings: RooflineReport, out: Path) -> None:
    """Write the page: the table, what it sums up to and stands on; or in one sentence why nothing was measured.

    Args:
        path: results/roofline.parquet.
        stamps: today's digests by stage.
        settings: the targets, and what makes an output correct.
        out: where to.
    """
    record = read_roofline(path, stamps)
    body = measured(roofline(record, settings), settings) if record.ok else not_measured(record)
    files.write_text(out, "\n\n".join(["# Selection kernels and the memory floor", *body]) + "\n")


def not_measured(record: Record[RooflineFacts]) -> list[str]:
    """The one sentence of a run without figures."""
    return [f"**NOT MEASURED**: {plain(outcome_words(record))}; {plain(record.fix or 'run it again')}."]


def measured(found: Roofline, settings: RooflineReport) -> list[str]:
    """The paragraphs of a run that has figures."""
    busy = other_processes(found.record)
    return [
        *conditions(found, settings),
        *([f"**Warning**: {busy.message}."] if busy.fired else []),
        markdown(shape_table(found)),
        *left_out(found),
        "## In sum",
        markdown(summary_table(found, settings.confidence)),
        KEY,
        *public_note(found),
        f"Rerun: `snakemake {Layout().roofline_page}`",
    ]


def conditions(found: Roofline, settings: RooflineReport) -> list[str]:
    """What was measured, on what, and how."""
    facts, rows, rates = found.record.facts, found.record.rows, found.bandwidths
    first = rows[rows["backend"] == BASELINE].iloc[0]
    layer = f"{first['dtype']}, l' = {first['sel_block']:g}, S = {first['context']:g}, G = {first['groups']:g}, Dv = D"
    calls = rows[rows["value_ns"].notna()].groupby(["backend", "process", *AXES])["value_ns"].count().max()
    times = f"each process's median, geometric mean and {percent(settings.confidence)} t-interval over the processes"
    low, mean, high = (f"{rate / 1e12:.3f}" for rate in (min(rates), float(np.mean(rates)), max(rates)))
    targets = ", ".join(f"`{name}` {t.ratio:g} × floor + {t.plus_us:g} µs" for name, t in settings.targets.items())
    right = f"worst-row error against a float64 oracle ≤ {settings.correct.error_ratio:g} × that of packed SDPA"
    origin = found.record.provenance
    dirty = " with uncommitted changes" if origin and origin.git_dirty else ""
    commit = (origin and origin.git_commit) or "unknown"
    return [
        f"{facts.device.name}, {layer}. Processes: {len(facts.replicates)}, with {calls} calls of each "
        + f"kernel on each shape. {METHOD} Times: {times}.",
        f"Floor: the bytes of the selected K and V over {mean} TB/s, the copy bandwidth of this run ({low} to {high}, "
        + f"before and after each process). An empty graph reads {bracketed(found.empty_us)} µs. "
        + f"Target: {targets or 'none'}.",
        f"A time is shown only where the outputs of the timed calls are right: {right} (`{BASELINE}`, gather), MAE "
        + f"against it ≤ {settings.correct.mae:g}.",
        f"Measured {origin.utc_time if origin else MISSING} at commit {commit}{dirty}.",
    ]


def shape_table(found: Roofline) -> Table:
    """One line per shape: the floor, and what each backend is beside it; one that did not run says its status."""
    shapes = [(figure.shape, figure.floor_us) for figure in found.figures[BASELINE]]
    table = {
        "N": [str(shape.rows) for shape, _ in shapes],
        "h": [str(shape.heads_per_group) for shape, _ in shapes],
        "D": [str(shape.head_dim) for shape, _ in shapes],
        "n": [str(shape.sel_count) for shape, _ in shapes],
        "floor µs": [significant(floor_us) for _, floor_us in shapes],
    }
    for name, state in found.states.items():
        ran = name in found.figures
        table |= columns(name, found.figures[name]) if ran else {name: [state.status] * len(shapes)}
    return Table(tuple(table), tuple(zip(*table.values(), strict=True)))


def columns(name: str, figures: Sequence[Figure]) -> dict[str, list[str]]:
    """One backend's columns, header to cells; there is none for what it is not compared with."""
    table = {
        f"{name} µs": [figure.fault or bracketed(figure.time_us) for figure in figures],
        f"{name} × floor": [significant(figure.over_floor) for figure in figures],
    }
    if any(figure.target_us is not None for figure in figures):
        table[f"{name} target µs"] = [significant(figure.target_us) for figure in figures]
        table[f"{name} target"] = [against_target(figure.excess_us) for figure in figures]
    if name != BASELINE:
        table[f"{name} × packed"] = [significant(geometric(figure.over_packed)) for figure in figures]
    if any(figure.public_us is not None for figure in figures):
        table[f"public µs for {name}"] = [
            f"{figure.public_us:g}" if figure.public_us else MISSING for figure in figures
        ]
        table[f"{name} × public"] = [significant(geometric(figure.over_public)) for figure in figures]
    return table


def against_target(excess_us: float | None) -> str:
    """Met or missed, and by how many µs."""
    if excess_us is None:
        return MISSING
    return f"{'met' if excess_us <= 0 else 'missed'} by {significant(abs(excess_us), 2)}"


def summary_table(found: Roofline, confidence: float) -> Table:
    """Over all shapes and for each N: one line per backend that ran; packed SDPA has one where it has a target."""
    lines = []
    for name, figures in found.figures.items():
        if name == BASELINE and all(figure.target_us is None for figure in figures):
            continue
        lines.append((name, "all", *summary(figures, confidence)))
        for N in dict.fromkeys(figure.shape.rows for figure in figures):
            part = [figure for figure in figures if figure.shape.rows == N]
            lines.append((name, str(N), *summary(part, confidence)))
    return Table(SUMMARY, tuple(lines))


def summary(figures: Sequence[Figure], confidence: float) -> tuple[str, ...]:
    """How many rows are within the target, the worst miss, and how the backend compares with packed SDPA and others.

    A row without a time that counts is not within the target.
    """
    aimed = [figure for figure in figures if figure.target_us is not None]
    excesses = [(figure.excess_us, figure) for figure in aimed if figure.excess_us is not None]
    met = sum(excess <= 0 for excess, _ in excesses)
    excess, where = max(((excess, str(figure.shape)) for excess, figure in excesses), default=(0.0, ""))
    miss = f"{significant(excess, 2)} ({where})" if excess > 0 else "none"
    return (
        f"{met} of {len(aimed)} ({sum(figure.surely_met for figure in aimed)})" if aimed else MISSING,
        miss if excesses else MISSING,
        *compared([figure.over_packed for figure in figures], confidence),
        *compared([figure.over_public for figure in figures], confidence),
    )


def compared(ratios: Sequence[pd.Series[float]], confidence: float) -> tuple[str, str]:
    """The geometric mean over the shapes that have a ratio, with how many these are; and the least."""
    known = [ratio for ratio in ratios if len(ratio)]
    if not known:
        return MISSING, MISSING
    shown = f"{bracketed(over_shapes(known, confidence))} (rows: {len(known)})"
    return shown, significant(min(geometric(ratio) or 0.0 for ratio in known))


def public_note(found: Roofline) -> list[str]:
    """Where the public kernels' figures come from; nothing on a machine that they are not of."""
    if not any(figure.public_us for figures in found.figures.values() for figure in figures):
        return []
    origin = "; ".join(found.public[["machine", "date", "method", "source"]].drop_duplicates().agg(", ".join, axis=1))
    kernels = ", ".join(found.public["kernel"].unique())
    return [
        f"Public: the best public kernel, for `triton` the best in Triton, in **another run** ({origin}): {kernels}."
    ]


def left_out(found: Roofline) -> list[str]:
    """Which backends did not run, and why."""
    missed = {name: state for name, state in found.states.items() if state.status != "ok"}
    lines = not_counted(Absent(name, f"{state.status} ({state.reason})", state.fix) for name, state in missed.items())
    return ["\n".join(f"- {plain(line)}" for line in lines)] if lines else []


def markdown(table: Table) -> str:
    """A table in Markdown."""
    lines = (table.header, ("---",) * len(table.header), *table.rows)
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)
