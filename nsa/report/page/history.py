"""The history as text: a table for the pages, lines for the console, a row per measurement for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nsa.records.words import Scalar
from nsa.report.accepted.keep import DECODE, SOFTWARE
from nsa.report.analysis.stats import Estimate
from nsa.report.history.measurement import Measurement
from nsa.report.history.series import Point, Series
from nsa.report.page.tables import MISSING, Table, as_change, bracketed

REFERENCE = "reference"  # said of the measurement that the others are compared with
MARKS = {"slower": "▲", "faster": "▼"}  # before what surely changed
CSV_COLUMNS = (
    *("model", "kind", "backend", "S", "where", "measured_utc", "git_commit", "git_dirty", "accepted"),
    *("time_ms", "time_ms_lo", "time_ms_hi", "processes", "reference_utc", "change", "change_lo", "change_hi", "says"),
    *("verdict", "blocked", *SOFTWARE),
)


@dataclass(frozen=True)
class Past:
    """What the pages show of the history.

    Attributes:
        series: empty where there is nothing to show beside this run.
        reason: why nothing is drawn, or what the figures are of, in one sentence.
    """

    series: tuple[Series, ...]
    reason: str


def past(found: Sequence[Series], model: str) -> Past:
    """What the pages show of a history that this run is a part of."""
    if all(len(each.points) < 2 for each in found):
        return Past((), f"The history of {model} has one run: from the second on, its values are drawn here.")
    first, last = min(_times(found)), max(_times(found))
    return Past(tuple(found), f"What {model} measured from {_date(first)} to {_date(last)} (UTC).")


def no_past(why: str | None) -> Past:
    """What they show where nothing was added to a history: for a reason, or because no GPU measured anything."""
    if why is None:
        return Past((), "The history is of runs on a GPU, and this run measured nothing on one.")
    return Past((), f"This run was not added to the history, which is not shown: {why}.")


def history_table(found: Sequence[Series]) -> Table:
    """One line per measurement, the newest of a cell or check first."""
    lines = [
        (each.backend, each.where, *described(each, point), point.measured.verdict or MISSING)
        for each in found
        for point in reversed(each.points)
    ]
    return Table(
        ("backend", "where", "measured (UTC)", "commit", "time", "change", "says", "verdict then"), tuple(lines)
    )


def history_lines(model: str, found: Sequence[Series]) -> Iterator[str]:
    """The history of one GPU model for a console: a block for each cell and check, the newest measurement last."""
    runs = len({point.measured.run_utc for each in found for point in each.points})
    first, last = _date(min(_times(found))), _date(max(_times(found)))
    yield f"{model}: {runs} {'run' if runs == 1 else 'runs'}, {first} to {last} (UTC)"
    yield f"Changes are since the {REFERENCE}, relative to the control; brackets are 95 % intervals."
    for each in found:
        yield ""
        yield f"{each.backend}, {each.where}"
        rows = [described(each, point) for point in each.points]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()


def csv_rows(model: str, found: Sequence[Series]) -> Iterator[dict[str, Scalar]]:
    """A row of CSV_COLUMNS for each measurement: times in ms, changes as ratios of times."""
    for each in found:
        for point in each.points:
            measured, software = point.measured, json.loads(point.measured.software)
            ratio = point.change.ratio if point.change else None
            row: dict[str, Scalar] = {name: getattr(measured, name, None) for name in CSV_COLUMNS}
            yield row | {
                "model": model,
                "where": each.where,
                "processes": len(measured.processes),
                "reference_utc": each.reference.measured_utc if each.reference else None,
                "change": ratio.value if ratio else None,
                "change_lo": ratio.low if ratio and math.isfinite(ratio.low) else None,
                "change_hi": ratio.high if ratio and math.isfinite(ratio.high) else None,
                "says": says(each, point),
                **{name: software.get(name) for name in SOFTWARE},
            }


def says(each: Series, point: Point) -> str:
    """What a measurement says beside the reference."""
    if point.measured is each.reference:
        return REFERENCE
    if point.change is None:
        return f"not comparable: {point.reason}"
    return point.change.verdict


def commit_of(measured: Measurement) -> str:
    """The commit in short, and whether there were changes beside it."""
    return f"{(measured.git_commit or 'unknown')[:12]}{' + changes' if measured.git_dirty else ''}"


def described(each: Series, point: Point) -> tuple[str, ...]:
    """A measurement in words: date, commit, time, change, what it says."""
    measured = point.measured
    said = says(each, point)
    mark = MARKS.get(point.surely or "")
    words = [*([f"{mark} {said}"] if mark else [said]), *(["accepted"] if measured.accepted else [])]
    return (
        _date(measured.measured_utc),
        commit_of(measured),
        time_of(measured),
        f"{as_change(point.change.ratio)} %" if point.change else MISSING,
        ", ".join(words),
    )


def time_of(measured: Measurement) -> str:
    """A time with its interval: a step in ms, a kernel and a core in µs."""
    scale, unit = (1.0, "ms") if measured.kind == DECODE else (1e3, "µs")
    time = measured.time
    scaled = Estimate(scale * time.value, scale * time.low, scale * time.high, time.processes)
    return f"{bracketed(scaled)} {unit}"


def _times(found: Sequence[Series]) -> list[str]:
    return [point.measured.measured_utc for each in found for point in each.points]


def _date(utc: str) -> str:
    return utc[:16].replace("T", " ")
