"""The report's tables and lines as text: figures with 3 significant digits, intervals in brackets."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from pydantic import JsonValue

from nsa.records.decode import Reads
from nsa.records.facts import Provenance
from nsa.report.accepted.compare import Comparison
from nsa.report.accepted.keep import DECODE
from nsa.report.analysis.corners import RIGHT
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import CellSummary, ran
from nsa.report.verdict.checks import Check
from nsa.report.verdict.gates import Accept, outcome_words
from nsa.report.verdict.invest import Invest
from nsa.report.verdict.words import BLOCKING

MISSING = "–"


@dataclass(frozen=True)
class Table:
    """A header and rows of text, for the report's template."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def decimals(digits: int, *scale: float) -> int:
    """How many decimals give the largest of some figures so many significant digits."""
    largest = max((abs(value) for value in scale if math.isfinite(value)), default=0.0)
    return max(0, digits - 1 - math.floor(math.log10(largest))) if largest else digits - 1


def significant(value: float | None, digits: int = 3) -> str:
    """A figure with so many significant digits and no exponent; a dash where there is none."""
    return MISSING if value is None or not math.isfinite(value) else fixed(value, decimals(digits, value))


def fixed(value: float, places: int) -> str:
    """A figure with so many decimals; a rounded zero has no sign."""
    return f"{round(value, places) + 0.0:.{places}f}"


def bracketed(estimate: Estimate | None, digits: int = 3) -> str:
    """A figure and its interval to the same decimals; one process alone has none, and says so."""
    if estimate is None or not math.isfinite(estimate.value):
        return MISSING
    places = decimals(digits, estimate.value, estimate.low, estimate.high)
    if not estimate.replicated:
        return f"{fixed(estimate.value, places)} (1 process)"
    low, high = (fixed(x, places) if math.isfinite(x) else str(x) for x in (estimate.low, estimate.high))
    return f"{fixed(estimate.value, places)} [{low}, {high}]"


def plain(text: str) -> str:
    """Text on one line that neither ends a Markdown table's cell nor opens an HTML tag."""
    return re.sub(r"<(?=[A-Za-z/!])", "&lt;", " ".join(str(text).split()).replace("|", "\\|"))


def reads(found: Reads) -> str:
    """reads_actual/reads_expected, as the guide prints them."""
    return f"{found.actual:.6g}/{found.expected:.6g}"


def context_table(cells: Sequence[CellSummary], invest: Invest) -> Table:
    """One line per S and backend: the guide's table with intervals, and what each deciding cell says."""
    header = ("S", "backend", "total ms", "cmp %", "sel %", "win %", "reads actual/expected", "invest")
    verdicts = {(invest.baseline, context.S): context.verdict for context in invest.contexts}
    lines = []
    for cell in ran(cells):
        arms = cell.arms
        shown = (bracketed(figure) for figure in (arms.ms_total, arms.cmp_pct, arms.sel_pct, arms.win_pct))
        verdict = verdicts.get((cell.backend, cell.S), MISSING)
        lines.append((str(cell.S), cell.backend, *shown, reads(cell.reads), verdict))
    return Table(header, tuple(lines))


def parts_table(cells: Sequence[CellSummary]) -> Table:
    """Where a step's time goes, and the step in the other modes, in ms."""
    parts_header = ("fixed", "cmp", "route", "sel", "win", "interaction", "sel l.o.o.", "sel l.o.o. %")
    header = ("S", "backend", *parts_header, "total warm", "eager", "empty graph", "A/A ratio", "% of bandwidth")
    lines = []
    for cell in ran(cells):
        arms = cell.arms
        parts = (arms.ms_fixed, arms.ms_cmp, arms.ms_route, arms.ms_sel, arms.ms_win, arms.ms_interaction)
        places = decimals(4, arms.ms_total.value)  # more digits of what is small beside the step say nothing
        lines.append(
            (
                str(cell.S),
                cell.backend,
                *(fixed(part.value, places) for part in (*parts, arms.ms_sel_loo)),
                bracketed(arms.sel_loo_pct),
                *(significant(ms) for ms in (cell.ms_total_warm, cell.ms_eager, cell.empty_ms)),
                bracketed(arms.aa_ratio, 5),
                significant(cell.bandwidth_pct, 2),
            )
        )
    return Table(header, tuple(lines))


def ceiling_table(cells: Sequence[CellSummary], baseline: str, selecting: Collection[str]) -> Table:
    """Amdahl: the whole step over one without selection, the most any kernel can win, beside what each one does.

    On a CPU it is empty: how fast a GPU kernel could make the step is not to be seen there.

    Args:
        selecting: the backends with a selection kernel; a decode core is none, and is named so.
    """
    by_key = {(cell.backend, cell.S): cell for cell in ran(cells) if cell.device.kind == "cuda"}
    others = tuple(dict.fromkeys(backend for backend, _ in by_key if backend != baseline))
    lines = []
    for S in sorted(S for backend, S in by_key if backend == baseline):
        base = by_key[baseline, S].arms
        share = base.sel_loo_pct
        value, low, high = (
            1 / (1 - pct / 100) if pct < 100 else math.inf for pct in (share.value, share.low, share.high)
        )
        measured = [by_key.get((other, S)) for other in others]
        ratios = (significant(base.ms_total.value / cell.arms.ms_total.value) if cell else MISSING for cell in measured)
        lines.append((str(S), bracketed(Estimate(value, low, high, share.processes)), *ratios))
    kinds = ("measured" if other in selecting else "(core) measured" for other in others)
    return Table(("S", "at best", *map(" ".join, zip(others, kinds, strict=True))), tuple(lines))


def not_run(cells: Sequence[CellSummary]) -> list[str]:
    """One line per backend and reason for the cells without figures."""

    def key(each: CellSummary) -> tuple[str, str, str]:
        return each.backend, outcome_words(each.cell), each.cell.fix or ""

    lines = []
    for (backend, words, fix), group in groupby(sorted((c for c in cells if c.figures is None), key=key), key):
        contexts = ", ".join(str(S) for S in sorted(each.S for each in group))
        lines.append(f"`{backend}` at S = {contexts}: {words}." + (f" Fix: {fix}." if fix else ""))
    return lines


def anomalies(checks: Sequence[Check]) -> list[str]:
    """The checks that fired: each blocking one on its line; a warning once per backend, with its worst cell."""
    fired = [check for check in checks if check.fired]
    lines = [f"**blocking** `{c.name}` on {c.cell}: {c.message}." for c in fired if c.severity == BLOCKING]

    def key(check: Check) -> tuple[str, str]:
        return check.name, check.cell.partition("/S")[0]

    for (name, backend), group in groupby(sorted((c for c in fired if c.severity != BLOCKING), key=key), key):
        same = list(group)
        worst = max(same, key=lambda check: check.observed or 0.0)
        contexts = ", ".join(check.cell.partition("/S")[2] for check in same)
        where = f"{backend} at S = {contexts}" if contexts else backend
        at = f" (S = {worst.cell.partition('/S')[2]})" if len({check.message for check in same}) > 1 else ""
        lines.append(f"warning `{name}` on {where}: {worst.message}{at}.")
    return lines


def kernel_table(accept: Accept) -> Table:
    """One line per shape of the grid for one candidate."""
    header = (
        "N",
        "h",
        "D",
        "Dv",
        "n",
        "time µs",
        "best packed µs",
        "winner",
        "speedup",
        "MAE",
        "oracle error",
        "of packed",
        "correct",
        "verdict",
    )
    lines = []
    for shape in accept.shapes:
        figures, result = shape.figures, shape.figures.correctness
        errors = (result.mae, result.oracle_error, result.sdpa_oracle_error) if result else ()
        lines.append(
            (
                *(str(size) for size in vars(figures.shape).values()),
                significant(figures.time_us),
                significant(figures.winner_us),
                figures.winner or MISSING,
                bracketed(figures.speedup),
                *([f"{error:.1e}" for error in errors] or [MISSING] * 3),
                {True: "yes", False: "NO", None: MISSING}[shape.correct],
                shape.verdict if result is None or result.fault is None else f"{shape.verdict}: {result.fault}",
            )
        )
    return Table(header, tuple(lines))


def corner_line(accept: Accept) -> str | None:
    """What the corner cases say of one candidate, in one line; None where there are none."""
    if not accept.corners:
        return None
    by_status: dict[str, list[str]] = {}
    for corner in accept.corners:
        by_status.setdefault(corner.status, []).append(corner.case)
    right = len(by_status.pop(RIGHT, ()))
    others = "".join(f"; {status}: {', '.join(cases)}" for status, cases in by_status.items())
    return f"Corner cases, drawn with seed {accept.corners[0].seed}: {right} of {len(accept.corners)} right{others}."


def change_table(comparison: Comparison) -> Table:
    """One line per comparison with the accepted run: both times, the change with its interval, and what it says."""
    lines = []
    for line in comparison.lines:
        scale = 1.0 if line.kind == DECODE else 1e3  # a kernel's time is in µs
        times = (None if time is None else scale * time for time in (line.before_ms, line.now_ms))
        words = f"**{line.verdict}**" if line.regression else line.verdict
        lines.append(
            (
                "decode ms" if line.kind == DECODE else "kernel µs",
                line.backend,
                line.where,
                *(significant(time) for time in times),
                as_change(line.ratio),
                f"{words}: {line.reason}" if line.reason else words,
            )
        )
    return Table(("what", "backend", "where", "accepted", "now", "change %", "verdict"), tuple(lines))


def as_change(ratio: Estimate | None) -> str:
    """A ratio of times as a change in per cent with its interval."""
    if ratio is None:
        return MISSING
    low, high = (100 * (bound - 1) if math.isfinite(bound) else bound for bound in (ratio.low, ratio.high))
    return bracketed(Estimate(100 * (ratio.value - 1), low, high, ratio.processes))


def provenance_table(origin: Mapping[str, set[str]]) -> Table:
    """Each key with its value, or with its first and last where the records differ."""
    shown = {
        key: min(seen) if len(seen) == 1 else f"{min(seen)} … {max(seen)} ({len(seen)} values)"
        for key, seen in sorted(origin.items())
    }
    return facts_table(shown)


def facts_table(facts: Mapping[str, JsonValue]) -> Table:
    """A dictionary as two columns; nested values are shown as they are."""
    return Table(
        ("key", "value"), tuple((key, MISSING if value is None else str(value)) for key, value in facts.items())
    )


def provenance(found: Iterable[Provenance]) -> dict[str, set[str]]:
    """What the used records say of their origin: the distinct values of each key.

    The probed environment is left out: the machine's stamp proves that it is today's.
    """
    values: dict[str, set[str]] = {}
    for about in found:
        said = about.model_dump(mode="json", exclude={"environment"}, exclude_none=True)
        for key, value in said.items():
            values.setdefault(key, set()).add(str(value))
    return values
