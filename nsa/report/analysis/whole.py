"""Whether the rows of a record are those that its processes made, each once; what is not so is a RecordError."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from nsa.errors import RecordError
from nsa.records.decode import Reads
from nsa.records.facts import TimedFacts
from nsa.records.shapes import AXES, CORE_AXES, CoreShape, GridShape
from nsa.records.words import AGAIN, CONTROL, CONTROLS, EMPTY, TIMED, UNSEEN

DECODE_SERIES = ("mode", "cache_state", "arm", "emits")  # what names the repetitions of one thing
CHECK_SERIES = (*AXES, "backend")
CORE_SERIES = (*CORE_AXES, "backend")
FIX = "delete it and rerun"


def require_whole_cell(path: Path, rows: pd.DataFrame, reads: Reads) -> None:
    """A decode cell: every process timed the same, every arm as often, no row is there twice, and the reads add up."""
    require_named(path, rows, ("mode", "cache_state", "arm"))
    kinds = rows.astype({"emits": object}).fillna({"emits": "-"})  # an empty graph neither emits nor not
    require_alike(path, kinds, DECODE_SERIES)
    require_as_often(path, kinds, DECODE_SERIES[:2], DECODE_SERIES[2:])
    require_own_times(path, kinds, DECODE_SERIES)
    parts = reads.cmp + reads.sel + reads.win
    if not math.isclose(parts, reads.actual, rel_tol=1e-9):
        raise RecordError(f"{path}: reads are {parts:g} in the branches and {reads.actual:g} in all; {FIX}")


def require_whole_check(path: Path, rows: pd.DataFrame, on_cuda: bool) -> None:
    """A kernel check: as a cell, and every timed output was judged."""
    require_named(path, rows, CHECK_SERIES)
    require_alike(path, rows, CHECK_SERIES)
    require_as_often(path, rows, CHECK_SERIES[:-1], CHECK_SERIES[-1:])
    require_own_times(path, rows, CHECK_SERIES)
    if on_cuda:
        require_judged(path, rows)


def require_whole_core(path: Path, rows: pd.DataFrame, backend: str, unseen: bool) -> None:
    """A core check: as a kernel check; where the core was timed, its floor is known and unseen inputs were tried.

    Args:
        unseen: whether the stage tries any.
    """
    on_grid = rows[rows["case"].isna() | rows["case"].isin((TIMED, UNSEEN))]
    require_named(path, on_grid, CORE_SERIES)
    require_alike(path, on_grid, CORE_SERIES)
    require_as_often(path, on_grid, CORE_AXES, ("backend",))
    require_own_times(path, on_grid, CORE_SERIES)
    require_judged(path, on_grid, CORE_SERIES)
    mine = on_grid[on_grid["backend"] == backend]
    timed = mine[mine["value_ns"].notna()]
    if not timed["floor_bytes"].fillna(0).gt(0).all():
        raise RecordError(f"{path}: floor_bytes of a timed call is null or not above 0, expected bytes; {FIX}")
    counts = mine.assign(unseen=mine["case"] == UNSEEN, timed=mine["value_ns"].notna())
    counts = counts.groupby([*CORE_AXES, "process"])[["unseen", "timed"]].sum()
    tried = counts[counts["timed"] > 0]["unseen"]
    if unseen and (lacking := tried[tried < max(1, tried.max())]).size:
        *sizes, process = lacking.index[0]
        raise RecordError(
            f"{path}: process {process} tried {words((*sizes, backend))} on {lacking.iloc[0]} unseen inputs, expected "
            f"{max(1, tried.max())} as elsewhere; {FIX}"
        )


def require_errors(path: Path, rows: pd.DataFrame, *columns: str) -> None:
    """An error is no number below 0."""
    for column in columns:
        if rows[column].lt(0).any():
            raise RecordError(f"{path}: {column} is {rows[column].min():g}, expected a number of at least 0; {FIX}")


def require_rates(path: Path, facts: TimedFacts) -> None:
    """A bandwidth that was measured is a number above 0: a floor is made of it."""
    for name in ("bandwidth_bytes_per_s", "read_bandwidth_bytes_per_s"):
        for rate in getattr(facts, name):
            if not (math.isfinite(rate) and rate > 0):
                raise RecordError(f"{path}: {name} holds {rate:g}, expected numbers above 0; {FIX}")


def require_named(path: Path, rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """No row lacks what names it: it would be in nobody's figures."""
    for column in columns:
        if rows[column].isna().any():
            process = rows[rows[column].isna()].iloc[0]["process"]
            raise RecordError(f"{path}: {column} is null in a row of process {process}; {FIX}")


def require_alike(path: Path, rows: pd.DataFrame, series: Sequence[str]) -> None:
    """Every process timed what the others timed, as often."""
    counts = how_often(rows, [*series, "process"]).unstack("process", fill_value=0)  # [series, process]
    if counts.empty:  # a CPU's kernel check
        return
    table = counts.to_numpy()
    usual = counts.mode(axis=1)[0].to_numpy()
    differs = table != usual[:, None]
    if not differs.any():
        return
    process = int(differs.sum(axis=0).argmax())
    where = int(differs[:, process].argmax())
    other = int((table[where] == usual[where]).argmax())
    one, another = (f"process {counts.columns[place]}" for place in (process, other))
    raise RecordError(
        f"{path}: {one} timed {words(tuple(counts.index[where]))} {table[where, process]} times, and {another} "
        f"{table[where, other]} times, expected as often in every process; {FIX}"
    )


def require_as_often(path: Path, rows: pd.DataFrame, among: Sequence[str], names: Sequence[str]) -> None:
    """In a process, what takes turns is timed equally often; the empty graph and the control stand apart."""
    turns = rows[~rows[names[0]].isin((EMPTY, *CONTROLS))]
    counts = how_often(turns, ["process", *among, *names])
    for _, each in counts.groupby(["process", *among]):
        if each.nunique() > 1:
            (process, *most), (_, *least) = (each.index[int(place)] for place in (each.argmax(), each.argmin()))
            raise RecordError(
                f"{path}: process {process} timed {words(most)} {each.max()} times, and {words(least)} {each.min()} "
                f"times, expected as often; {FIX}"
            )


def require_own_times(path: Path, rows: pd.DataFrame, series: Sequence[str]) -> None:
    """No process holds each row twice, or the times of another one: a copy is no replicate."""
    timed = rows[rows["value_ns"].notna()].sort_values([*series, "value_ns"])
    own = {int(str(process)): part for process, part in timed.groupby("process")}
    times = {process: part["value_ns"].to_numpy() for process, part in own.items()}
    distinct = timed.groupby([*series, "process"])["value_ns"].nunique().gt(1).groupby("process").mean()
    telling = [process for process in own if distinct[process] > 0.5]  # elsewhere the clock is too coarse to tell
    for process in telling:
        first, second = times[process][:2]  # telling, so there are two; of rows that are there twice they are equal
        if first == second and own[process].duplicated(keep=False).all():
            raise RecordError(f"{path}: every row of process {process} is there twice; {FIX}")
    for one, other in combinations(telling, 2):
        if np.array_equal(times[one], times[other]):
            raise RecordError(f"{path}: processes {one} and {other} have the same times, expected their own; {FIX}")


def require_judged(path: Path, rows: pd.DataFrame, series: Sequence[str] = CHECK_SERIES) -> None:
    """As many timed outputs of a kernel or a core on a shape were judged, in each process, as were timed."""
    shown = rows[~rows["backend"].str.startswith((AGAIN, CONTROL, EMPTY))]
    counts = shown.groupby([*series, "process"]).agg(timed=("value_ns", "count"), judged=("judged", "sum"))
    wrong = counts[counts["timed"] != counts["judged"]]
    if len(wrong):
        *where, process = wrong.index[0]
        timed, judged = (int(wrong.iloc[0][name]) for name in ("timed", "judged"))
        raise RecordError(
            f"{path}: process {process} timed {words(where)} {timed} times and judged {judged} of its outputs, "
            f"expected all; {FIX}"
        )


def how_often(rows: pd.DataFrame, keys: Sequence[str]) -> pd.Series[int]:
    """How many times there are of each."""
    return rows[rows["value_ns"].notna()].groupby(list(keys)).size()


def words(where: Sequence[object]) -> str:
    """What a message calls a series: the kernel and its shape, or the arm and how it was timed."""
    if len(where) == len(CHECK_SERIES):
        *sizes, backend = where
        return f"{backend} on {GridShape(*(int(str(size)) for size in sizes))}"
    if len(where) == len(CORE_SERIES):
        *sizes, backend = where
        return f"{backend} on {CoreShape.of(sizes)}"
    mode, cache_state, arm, emits = where
    return f"arm {arm} ({mode}, {cache_state}{'' if emits == '-' else ', emitting' if emits else ', not emitting'})"
