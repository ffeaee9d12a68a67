"""results/core_curve.md: how a decode core's time grows with S and B, beside the memory floor and its targets.

A core must read what grows with S, the compressed tokens, one for every d; the selected blocks and the window do not
grow. Of memory-bound work the time then grows as the floor does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from nsa.config import CurveTarget
from nsa.layout import Layout
from nsa.records import files, parquet
from nsa.records.made import CoreCurveHeader
from nsa.records.words import Row
from nsa.report.analysis.core import CoreFigures
from nsa.report.analysis.read import Stamps
from nsa.report.page.core_curve_plot import draw
from nsa.report.page.core_records import (
    CORE_COLUMNS,
    CorePage,
    conditions,
    core_row,
    fault_of,
    no_core,
    not_measured,
    read_cores,
)
from nsa.report.page.roofline import against_target, markdown
from nsa.report.page.tables import MISSING, Table, bracketed, significant
from nsa.report.verdict.gates import percent
from nsa.report.verdict.warnings import other_processes

GROWN_FROM = 8192  # S from which growth is told: below it a few rows do not keep the memory busy
METHOD = """Clean cold L2 (written, then read), one CUDA-graph replay a call, between events, in turns with the composed
core; each replay has queries, gates and newest tokens of its own, and every output is judged against float64. Keys are
noise, runs of topics, and with sinks, in turn. A time is shown only where all outputs are right. Floor: K and V of the
compressed, the selected and the window's tokens, each once, over the copy bandwidth of the same run; reading alone may
be faster than copying, and a share then beyond 100 %."""
GROWTH = """What a core takes more at the longest S than at that one, beside what the floor grows by: 100 % is the speed
of memory."""
COLUMNS = pa.schema(
    [
        *CORE_COLUMNS,
        ("target_us", pa.float64()),
        ("fault", pa.string()),  # why there is no time
    ]
)


class CoreCurve(CorePage):
    """What the page is made with: the targets of each backend, too, of which the first that holds is a shape's."""

    targets: dict[str, tuple[CurveTarget, ...]]


@dataclass(frozen=True)
class Point:
    """A core on one shape, and what it shall reach there.

    Attributes:
        fault: why no time of it counts.
        target_us: None where no target holds for the shape, or there is no floor.
    """

    found: CoreFigures
    fault: str | None
    target_us: float | None

    @property
    def time_us(self) -> float | None:
        """The time that counts."""
        return self.found.time_us.value if self.found.time_us and self.fault is None else None

    @property
    def excess_us(self) -> float | None:
        """By how much the target is missed; at most 0 where it is met."""
        return None if self.time_us is None or self.target_us is None else self.time_us - self.target_us

    @property
    def over_floor_us(self) -> float | None:
        """The time beyond the floor."""
        return None if self.time_us is None or self.found.floor_us is None else self.time_us - self.found.floor_us


def report(paths: Sequence[Path], stamps: Stamps, settings: CoreCurve, page: Path, table: Path, drawing: Path) -> None:
    """Write the page, its table and its figure; or in one sentence why nothing was measured.

    Args:
        paths: results/core_curve/*.parquet.
        stamps: today's digests by stage.
        settings: the shapes, the targets, and what makes an output correct.
        page, table, drawing: where to.
    """
    parts, points = [] if paths else [no_core(Layout().curve_page)], dict[str, list[Point]]()
    for path in paths:
        cores = read_cores(path, stamps, settings, "core_curve")
        backend = cores.record.backend
        points[backend] = [_point(found, settings.targets.get(backend, ())) for found in cores.figures]
        parts += [f"## {backend}"]
        if not points[backend]:
            parts += [not_measured(cores.record)]
            continue
        busy = other_processes(cores.record)
        parts += [conditions(cores, settings.confidence), *([f"**Warning**: {busy.message}."] if busy.fired else [])]
        parts += [METHOD, markdown(_table(points[backend])), *_within(points[backend])]
        parts += [f"### Growth from S = {GROWN_FROM} on", GROWTH, markdown(growth_table(points[backend]))]
    draw({backend: [each.found for each in some if each.time_us] for backend, some in points.items()}, drawing)
    rows = [_row(backend, each) for backend, some in points.items() for each in some]
    parquet.write(table, rows, COLUMNS, CoreCurveHeader())
    text = "\n\n".join(["# Decode cores over S and B", *parts])
    files.write_text(page, f"{text}\n\nRerun: `snakemake {Layout().curve_page}`\n")


def target_us(targets: Sequence[CurveTarget], found: CoreFigures) -> float | None:
    """What a core shall reach on a shape: the first target that holds for it."""
    for target in targets:
        if found.shape.batch <= target.max_batch and found.shape.context >= target.min_context:
            return None if found.floor_us is None else target.ratio * found.floor_us + target.plus_us
    return None


def _point(found: CoreFigures, targets: Sequence[CurveTarget]) -> Point:
    return Point(found, fault_of(found), target_us(targets, found))


def _table(points: Sequence[Point]) -> Table:
    header = ("B", "S", "core µs", "floor µs", "over the floor µs", "bandwidth share", "target µs", "target")
    lines = []
    for each in points:
        found = each.found
        lines.append(
            (
                str(found.shape.batch),
                str(found.shape.context),
                each.fault or bracketed(found.time_us),
                significant(found.floor_us),
                significant(each.over_floor_us),
                percent(round(found.rate, 3)) if found.rate is not None and each.fault is None else MISSING,
                significant(each.target_us),
                against_target(each.excess_us),
            )
        )
    return Table(header, tuple(lines))


def _within(points: Sequence[Point]) -> list[str]:
    """How many shapes with a target meet it; one without a time that counts does not."""
    aimed = [each for each in points if each.target_us is not None]
    met = [each for each in aimed if each.excess_us is not None and each.excess_us <= 0]
    return [f"Within target: {len(met)} of {len(aimed)} shapes that have one."] if aimed else []


def growth_table(points: Sequence[Point]) -> Table:
    """For each B: what the core and its floor take more at the longest S than at GROWN_FROM."""
    header = ("B", "from S", "to S", "core grows by µs", "floor grows by µs", "share")
    return Table(header, tuple(_growth(points)))


def _growth(points: Sequence[Point]) -> Iterator[tuple[str, ...]]:
    for batch in dict.fromkeys(each.found.shape.batch for each in points):
        line = [
            (each.found.shape.context, each.time_us, each.found.floor_us)
            for each in points
            if each.found.shape.batch == batch and each.found.shape.context >= GROWN_FROM
        ]
        known = sorted((S, time, floor) for S, time, floor in line if time is not None and floor is not None)
        if len(known) > 1:
            (first, time, floor), (last, later, higher) = known[0], known[-1]
            grown, due = later - time, higher - floor
            share = percent(round(grown / due, 3)) if due > 0 else MISSING
            yield str(batch), str(first), str(last), significant(grown), significant(due), share


def _row(backend: str, each: Point) -> Row:
    return {**core_row(backend, each.found, each.fault), "target_us": each.target_us}
