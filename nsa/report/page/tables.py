"""The report's tables and lines as text: figures with 3 significant digits, intervals in brackets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from nsa.report.accepted.compare import Comparison
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import Row
from nsa.report.verdict.checks import BLOCKING, Check
from nsa.report.verdict.gates import Accept, Invest, status_words

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


def cell_estimate(row: Row, column: str, digits: int = 3) -> str:
    """A summary column with its interval."""
    return bracketed(Estimate.from_row(row, column, row["processes"] or 0), digits)


def reads(row: Row) -> str:
    """reads_actual/reads_expected, as the guide prints them."""
    pair = (row["reads_actual"], row["reads_expected"])
    return "/".join(MISSING if value is None else f"{value:.6g}" for value in pair)


def ran(rows: Iterable[Row]) -> list[Row]:
    """The rows with figures, by S, in the given order of backends."""
    return sorted((row for row in rows if row["status"] == "ok"), key=lambda row: row["S"])


def context_table(rows: Sequence[Row], invest: Invest) -> Table:
    """One line per S and backend: the guide's table with intervals, and what each deciding cell says."""
    header = ("S", "backend", "total ms", "cmp %", "sel %", "win %", "reads actual/expected", "invest")
    verdicts = {(invest.baseline, context.S): context.verdict for context in invest.contexts}
    lines = []
    for row in ran(rows):
        figures = (cell_estimate(row, column) for column in ("ms_total", "cmp_pct", "sel_pct", "win_pct"))
        verdict = verdicts.get((row["backend"], row["S"]), MISSING)
        lines.append((str(row["S"]), row["backend"], *figures, reads(row), verdict))
    return Table(header, tuple(lines))


def parts_table(rows: Sequence[Row]) -> Table:
    """Where a step's time goes, and the step in the other modes, in ms."""
    columns = {"ms_fixed": "fixed", "ms_cmp": "cmp", "ms_route": "route", "ms_sel": "sel", "ms_win": "win"}
    columns |= {"ms_interaction": "interaction", "ms_sel_loo": "sel l.o.o."}
    others = {"ms_total_warm": "total warm", "ms_eager": "eager", "empty_ms": "empty graph"}
    header = ("S", "backend", *columns.values(), "sel l.o.o. %", *others.values(), "A/A ratio", "% of bandwidth")
    lines = []
    for row in ran(rows):
        places = decimals(4, row["ms_total"])  # what is small beside the step is noise beyond that
        lines.append(
            (
                str(row["S"]),
                row["backend"],
                *(fixed(row[column], places) for column in columns),
                cell_estimate(row, "sel_loo_pct"),
                *(significant(row[column]) for column in others),
                cell_estimate(row, "aa_ratio", 5),
                significant(row["bandwidth_pct"], 2),
            )
        )
    return Table(header, tuple(lines))


def ceiling_table(rows: Sequence[Row], baseline: str) -> Table:
    """Amdahl: the whole step over one without selection, the most any kernel can win, beside what each one does.

    On a CPU it is empty: how fast a GPU kernel could make the step is not to be seen there.
    """
    by_key = {(row["backend"], row["S"]): row for row in ran(rows) if row["device"] == "cuda"}
    others = tuple(dict.fromkeys(backend for backend, _ in by_key if backend != baseline))
    lines = []
    for S in sorted(S for backend, S in by_key if backend == baseline):
        base = by_key[baseline, S]
        share = Estimate.from_row(base, "sel_loo_pct", base["processes"])
        if share is None:
            continue
        value, low, high = (
            1 / (1 - pct / 100) if pct < 100 else math.inf for pct in (share.value, share.low, share.high)
        )
        measured = [by_key.get((other, S)) for other in others]
        ratios = (significant(base["ms_total"] / row["ms_total"]) if row else MISSING for row in measured)
        lines.append((str(S), bracketed(Estimate(value, low, high, share.processes)), *ratios))
    return Table(("S", "at best", *(f"{other} measured" for other in others)), tuple(lines))


def not_run(rows: Sequence[Row]) -> list[str]:
    """One line per backend and reason for the cells without figures."""

    def key(row: Row) -> tuple[str, str, str]:
        return row["backend"], status_words(row), row["fix"] or ""

    lines = []
    for (backend, words, fix), group in groupby(sorted((r for r in rows if r["status"] != "ok"), key=key), key):
        contexts = ", ".join(str(row["S"]) for row in sorted(group, key=lambda row: row["S"]))
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


def change_table(comparison: Comparison) -> Table:
    """One line per comparison with the accepted run: both times, the change with its interval, and what it says."""
    lines = []
    for line in comparison.lines:
        scale = 1.0 if line.kind == "decode" else 1e3  # a kernel's time is in µs
        times = (None if time is None else scale * time for time in (line.before_ms, line.now_ms))
        words = f"**{line.verdict}**" if line.regression else line.verdict
        lines.append(
            (
                "decode ms" if line.kind == "decode" else "kernel µs",
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


def facts_table(facts: Mapping[str, Any]) -> Table:
    """A dictionary as two columns; nested values are shown as they are."""
    return Table(
        ("key", "value"), tuple((key, MISSING if value is None else str(value)) for key, value in facts.items())
    )


def provenance(found: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """What the used records say of their origin: the distinct values of each key.

    Nested values (the probed environment) are left out: the machine's stamp proves that they are today's.
    """
    values: dict[str, set[str]] = {}
    for facts in found:
        for key, value in facts.items():
            if value is not None and not isinstance(value, Mapping):
                values.setdefault(key, set()).add(str(value))
    return values
