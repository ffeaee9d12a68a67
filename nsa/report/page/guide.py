"""The guide's console tables: the decode table and the summary of a decode.csv (docs/guide.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from nsa.config import GateSettings
from nsa.errors import RecordError
from nsa.records import parquet
from nsa.records.words import PARTS
from nsa.report.analysis.rows import to_frame
from nsa.report.analysis.summary import GUIDE, CellSummary
from nsa.settings import MAX_INT32

GUIDE_COLUMNS = ("S", *GUIDE)
SEL = PARTS.index("sel")
BOUNDS = {  # of a column: the lowest and the highest value, whether it is whole, and the words
    "S": (1, MAX_INT32, True, f"a whole number from 1 to {MAX_INT32}"),
    "ms_total": (math.ulp(0.0), math.inf, False, "a finite number above 0"),
    "reads_actual": (0, math.inf, False, "a finite number of at least 0"),
    "reads_expected": (0, math.inf, True, "a whole number of at least 0"),
}
DECODE_HEADER = ("Context", "Total(ms)", "cmp(ms)", "sel(ms)", "win(ms)", "Reads")


class Context(NamedTuple):
    """A row of a decode table.

    Attributes:
        backend: None where the table does not say.
        why: why it has no figures, as a clause; None where it has.
        shares: of each of PARTS in per cent of the total: the gate's own figure (the mean over processes) where the
            file has it, else that of the times.
        device: as the table says, if it does.
    """

    backend: str | None
    S: int
    why: str | None
    total_ms: float
    shares: tuple[float, ...]
    reads_actual: float
    reads_expected: float
    device: str | None

    @property
    def where(self) -> str:
        """How a line names it."""
        return named(self.backend, self.S)

    @property
    def reads(self) -> str:
        """reads_actual/reads_expected."""
        return counts(self.reads_actual, self.reads_expected)


def decode_table_row(cell: CellSummary) -> tuple[str, ...]:
    """One line under DECODE_HEADER (docs/guide.md); a cell that did not run shows its status."""
    if cell.figures is None:
        return (str(cell.S), cell.cell.status, *["-"] * 4)
    arms, reads = cell.figures.arms, cell.figures.reads
    times = (f"{figure.value:.4f}" for figure in (arms.ms_total, arms.ms_cmp, arms.ms_sel, arms.ms_win))
    return (str(cell.S), *times, counts(reads.actual, reads.expected))


@dataclass(frozen=True)
class Summary:
    """What a decode table says.

    Attributes:
        lines: the table, then a sentence for each row; made as they are asked for.
        reads_differ: whether a row's reads are not those expected, which is an error of the kernel or the schedule.
    """

    lines: Iterator[str]
    reads_differ: bool


def summarize(path: Path, gates: GateSettings) -> Summary:
    """Shares of each context and what they mean, from a decode CSV or a decode_*.parquet.

    Args:
        path: a CSV with the guide's columns, or a Parquet summary; more columns may be there.
        gates: the thresholds of the invest gate.

    Raises:
        RecordError: the file is missing, broken or foreign; one line names the column, the row and the value.
    """
    frame = read(path)
    found = list(contexts(frame))
    differ = any(each.why is None and each.reads_actual != each.reads_expected for each in found)
    return Summary(chain(table(found, "backend" in frame), ("",), sentences(found, gates)), differ)


def sentences(found: Sequence[Context], gates: GateSettings) -> Iterator[str]:
    """A line for each context with figures, and one for those that follow each other without, for the same reason."""
    for (backend, why), alike in groupby(found, lambda each: (each.backend, each.why)):
        if why is None:
            yield from (f"{each.where}: {meaning(each, gates)}" for each in alike)
        else:
            yield f"{named(backend, *(each.S for each in alike))}: {why}."


def table(found: Sequence[Context], named: bool) -> Iterator[str]:
    """The lines of the summary's table, with the names of backends where there are any."""
    rows = [("backend",) * named + ("S", "total", *(f"{part}%" for part in PARTS), "reads")]
    for each in found:
        if each.why is None:
            figures = str(each.S), f"{each.total_ms:.4f}", *(f"{share:.1f}" for share in each.shares), each.reads
            rows.append(figures if each.backend is None else (each.backend, *figures))
    return aligned(rows)


def contexts(frame: pd.DataFrame) -> Iterator[Context]:
    """The rows of what `read` returns; by columns, as a file may have half a million of them."""
    total = frame["ms_total"]
    shares = []
    for part in PARTS:
        of_times = 100 * frame[f"ms_{part}"] / total
        shares.append(frame[f"{part}_pct"].fillna(of_times) if f"{part}_pct" in frame else of_times)
    return map(
        Context,
        texts(frame, "backend"),
        frame["S"].tolist(),
        map(without_figures, total.isna().tolist(), texts(frame, "status"), texts(frame, "reason")),
        total.tolist(),
        zip(*(share.tolist() for share in shares), strict=True),
        frame["reads_actual"].tolist(),
        frame["reads_expected"].tolist(),
        texts(frame, "device"),
    )


def texts(frame: pd.DataFrame, name: str) -> list[str | None]:
    """A column of texts, with None where a row has none or the table has no such column."""
    column = frame[name].tolist() if name in frame else [None] * len(frame)
    return [value if isinstance(value, str) else None for value in column]


def without_figures(missing: bool, status: str | None, reason: str | None) -> str | None:
    """Why a row has no figures, or None where none are missing."""
    if not missing:
        return None
    return f"{status}, {reason}" if reason is not None else str(status)


def named(backend: str | None, *S: int) -> str:
    """How a line names contexts."""
    where = f"S = {', '.join(map(str, S))}"
    return where if backend is None else f"{backend} {where}"


def counts(actual: float, expected: float) -> str:
    """Two counts of reads."""
    return f"{actual:.9g}/{expected:.9g}"


def meaning(found: Context, gates: GateSettings) -> str:
    """What one context's shares mean (docs/guide.md)."""
    share, go, no_go = found.shares[SEL], 100 * gates.invest.go, 100 * gates.invest.no_go
    if wrong := impossible(found, gates):
        text = f"{wrong}: such shares are impossible, and decide nothing."
    elif share >= go:
        text = f"sel is {share:.1f} % of the step, at least {go:g} %: a selection kernel can pay."
    elif share >= no_go:
        text = f"sel is {share:.1f} % of the step, between {no_go:g} % and {go:g} %: borderline."
    else:
        text = f"sel is {share:.1f} % of the step, below {no_go:g} %: other parts dominate."
    if found.device == "cpu":
        text += " Measured on a CPU: it decides nothing about a GPU kernel."
    if found.reads_actual != found.reads_expected:
        text += f" READS DIFFER: {found.reads}; report it (causality or schedule)."
    return text


def impossible(found: Context, gates: GateSettings) -> str | None:
    """What no true measurement of parts of a step gives, or None.

    A part takes from 0 to 100 % of the step. Parts run one after the other: together they take no more than all of it,
    but for the points by which the invest gate lets two ways of measuring a share differ.
    """
    for part, share in zip(PARTS, found.shares, strict=True):
        if not 0 <= share <= 100:
            return f"{part} is {share:.4g} % of the step"
    total = sum(found.shares)
    if total > 100 * (1 + gates.invest.max_disagreement):
        return f"{', '.join(PARTS)} are together {total:.4g} % of the step"
    return None


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table: figures aligned right, the names of backends left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = ["<" if name == "backend" else ">" for name in rows[0]]
    line = "  ".join(f"{{:{side}{width}}}" for side, width in zip(sides, widths, strict=True))
    return (line.format(*row) for row in rows)


def read(path: Path) -> pd.DataFrame:
    """Read a decode CSV or Parquet summary.

    Its figures are numbers, NaN only in a row whose status is not ok; S is whole; a backend without a name is "-".

    Raises:
        RecordError: see `summarize`.
    """
    frame = read_parquet(path) if path.suffix == ".parquet" else read_csv(path)
    missing = [name for name in GUIDE_COLUMNS if name not in frame]
    if missing:
        expected = ",".join(GUIDE_COLUMNS)
        raise RecordError(f"{path}: lacks the columns {', '.join(missing)}; expected a decode table with {expected}")
    if frame.empty:
        raise RecordError(f"{path}: holds no rows; expected one per context")
    status = frame.get("status", pd.Series("ok", index=frame.index)).fillna("ok")
    for name in (*GUIDE_COLUMNS, *(f"{part}_pct" for part in PARTS if f"{part}_pct" in frame)):
        values = pd.to_numeric(frame[name], errors="coerce")
        bad = values.isna() & (status.eq("ok") | frame[name].notna() | (name == "S"))
        low, high, whole, wanted = BOUNDS.get(name, (-math.inf, math.inf, False, "a finite number"))
        bad |= values.abs().eq(math.inf) | values.lt(low) | values.gt(high)
        bad |= values.mod(1).ne(0) & values.notna() if whole else False
        if bad.any():
            place = int(bad.to_numpy().argmax())
            value = frame[name].iloc[place]
            raise RecordError(f"{path}: row {place + 1}, column {name}: got {value!r:.80}, expected {wanted}")
        frame[name] = values.astype(int) if name == "S" else values
    frame = frame.assign(backend=frame["backend"].fillna("-")) if "backend" in frame else frame
    again = frame.duplicated([name for name in ("backend", "device", "S") if name in frame])
    if again.any():
        place = int(again.to_numpy().argmax())
        S = frame["S"].iloc[place]
        raise RecordError(f"{path}: row {place + 1}, column S: got {S} again, expected each context of a backend once")
    texts = frame.select_dtypes(exclude="number").columns
    return frame.assign(**{name: frame[name].map(printable) for name in texts})


def printable(value: object) -> object:
    """A text without what moves a terminal's cursor or colours it; anything else as it is."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in value)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV as text, so that a bad value can be named as it stands.

    Raises:
        RecordError: the file is missing or is no CSV.
    """
    try:
        frame = pd.read_csv(path, dtype=str)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file; expected a decode CSV or a decode_*.parquet") from error
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); expected a decode CSV") from error
    except ValueError as error:  # pandas' EmptyDataError and ParserError, and UnicodeDecodeError, are ValueErrors
        raise RecordError(
            f"{path}: is no CSV ({str(error).strip()}); expected a header and a row per context"
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes what is too much for row labels
        raise RecordError(f"{path}: its rows have more values than its header has columns; expected as many")
    return frame


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a Parquet summary, which may be a user's own copy: nothing here advises to delete it.

    Raises:
        RecordError: the file is missing or is no Parquet.
    """
    try:
        return to_frame(parquet.read_table(path))
    except RecordError as error:
        why = str(error).removeprefix(f"{path}: ").partition(";")[0]
        made = f", which `snakemake {path}` makes" if not path.exists() and path.name.startswith("decode_") else ""
        raise RecordError(f"{path}: {why}; expected a decode CSV (as *.csv) or a decode_*.parquet{made}") from error
