"""The guide's console tables: the decode table and the summary of a decode.csv (guide, "Summarize Results")."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from nsa.config import GateSettings
from nsa.errors import RecordError
from nsa.records import parquet

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

GUIDE_COLUMNS = ("S", "ms_total", "ms_cmp", "ms_sel", "ms_win", "reads_actual", "reads_expected")
DECODE_HEADER = ("Context", "Total(ms)", "cmp(ms)", "sel(ms)", "win(ms)", "Reads")
PARTS = ("cmp", "sel", "win")


def decode_table_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line under DECODE_HEADER (guide, "Run the Decode Bench"); a cell that did not run shows its status."""
    if row["ms_total"] is None:
        return (str(row["S"]), row.get("status") or "-", *["-"] * 4)
    return (str(row["S"]), *(f"{row[key]:.4f}" for key in ("ms_total", "ms_cmp", "ms_sel", "ms_win")), reads(row))


def summarize(path: Path, gates: GateSettings) -> Group:
    """Shares of each context and what they mean, from a decode CSV or a decode_*.parquet.

    Args:
        path: a CSV with the guide's columns, or a Parquet summary; more columns may be there.
        gates: the thresholds of the invest gate.

    Raises:
        RecordError: the file is missing, broken or foreign; one line names the column, the row and the value.
    """
    from rich.console import Group
    from rich.text import Text

    frame = read(path)
    header = ["S", "total", "cmp%", "sel%", "win%", "reads"]
    named = "backend" in frame
    lines, meanings = [], []
    for found in frame.to_dict("records"):
        row = {str(name): value for name, value in found.items()}
        where = f"{row['backend']} S = {row['S']}" if named else f"S = {row['S']}"
        if pd.isna(row["ms_total"]):
            reason = row.get("reason")
            meanings.append(f"{where}: {row['status']}{f', {reason}' if pd.notna(reason) else ''}.")
            continue
        shares = [f"{percent(row, part):.1f}" for part in PARTS]
        line = (str(row["S"]), f"{row['ms_total']:.4f}", *shares, reads(row))
        lines.append((row["backend"], *line) if named else line)
        meanings.append(f"{where}: {meaning(row, gates)}")
    return Group(table(["backend", *header] if named else header, lines), *(Text(text) for text in ["", *meanings]))


def meaning(row: Mapping[str, Any], gates: GateSettings) -> str:
    """What one context's shares mean (guide, "How to Interpret")."""
    share, go, no_go = percent(row, "sel"), 100 * gates.invest["go"], 100 * gates.invest["no_go"]
    if share >= go:
        text = f"sel is {share:.1f} % of the step, at least {go:g} %: a selection kernel can pay."
    elif share >= no_go:
        text = f"sel is {share:.1f} % of the step, between {no_go:g} % and {go:g} %: borderline."
    else:
        text = f"sel is {share:.1f} % of the step, below {no_go:g} %: other parts dominate."
    if row.get("device") == "cpu":
        text += " Measured on a CPU: it decides nothing about a GPU kernel."
    if row["reads_actual"] != row["reads_expected"]:
        text += f" READS DIFFER: {reads(row)}; report it (causality or schedule)."
    return text


def percent(row: Mapping[str, Any], part: str) -> float:
    """A part's share: the gate's own figure (the mean over processes) where the file has it, else of the times."""
    recorded = row.get(f"{part}_pct")
    return float(100 * row[f"ms_{part}"] / row["ms_total"] if pd.isna(recorded) else recorded)


def reads(row: Mapping[str, Any]) -> str:
    """reads_actual/reads_expected."""
    return f"{row['reads_actual']:.9g}/{row['reads_expected']:.9g}"


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A plain console table, figures aligned right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for name in header:
        made.add_column(name, justify="left" if name == "backend" else "right", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def read(path: Path) -> pd.DataFrame:
    """Read a decode CSV or Parquet summary.

    Its figures are numbers, NaN only in a row whose status is not ok; S is whole; a backend without a name is "-".

    Raises:
        RecordError: see `summarize`.
    """
    frame = parquet.read(path)[0].to_pandas() if path.suffix == ".parquet" else read_csv(path)
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
        bad |= values.abs().eq(float("inf")) | (values.le(0) if name in ("S", "ms_total") else False)
        bad |= values.mod(1).ne(0) if name == "S" else False
        if bad.any():
            place = int(bad.to_numpy().argmax())
            wanted = {"S": "a whole number above 0", "ms_total": "a finite number above 0"}.get(name, "a finite number")
            value = frame[name].iloc[place]
            raise RecordError(f"{path}: row {place + 1}, column {name}: got {value!r}, expected {wanted}")
        frame[name] = values.astype(int) if name == "S" else values
    return frame.assign(backend=frame["backend"].fillna("-")) if "backend" in frame else frame


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
