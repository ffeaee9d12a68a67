"""What a record must be before a figure is made of it; what is not so is a RecordError that names it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from nsa.errors import RecordError
from nsa.records.decode import DecodeFacts
from nsa.records.facts import Device, Replicate
from nsa.records.merge import Model
from nsa.records.outcome import Header
from nsa.records.shapes import CONSTANT
from nsa.records.words import ARMS, OTHER, VARIED

F = TypeVar("F", bound=Model)
Value = str | int | None


def require_identity(path: Path, header: Header[F], stage: str, backend: str | None, S: int | None = None) -> None:
    """The file says that it is what its path says."""
    for key, found, expected in (
        ("stage", header.stage, stage),
        ("backend", header.backend, backend),
        ("S", header.S, S),
    ):
        if found != expected:
            raise RecordError(f"{path}: {key} is {found!r}, expected {expected!r}; delete it and rerun")


def require_device(path: Path, header: Device, facts: Device) -> None:
    """The header and the facts name one model of device; of several cards, only the facts know which one it was."""
    for key, said, measured in (("kind", header.kind, facts.kind), ("name", header.name, facts.name)):
        if said != measured:
            raise RecordError(f"{path}: device.{key} is {said!r}, and the facts say {measured!r}; delete it and rerun")


def require_cell(path: Path, facts: DecodeFacts, S: int, rows: pd.DataFrame, mode: str, cache_state: str) -> None:
    """An ok cell is of one device, layer and dtype, and every process timed every arm in the primary mode."""
    if facts.geometry.S != S:
        raise RecordError(f"{path}: geometry.S is {facts.geometry.S}, expected {S}; delete it and rerun")
    require_columns(path, rows, device_columns(facts.device) | facts.geometry.model_dump())
    require_processes(path, rows, facts.replicates)
    require_positive(path, rows)
    values = rows[(rows["mode"] == mode) & (rows["cache_state"] == cache_state)]
    counts = values.groupby(["process", "arm", "emits"])["value_ns"].count().unstack(["arm", "emits"], fill_value=0)
    others = [f"{arm}{OTHER}{name}" for name in facts.variants for arm in VARIED]
    for arm in [*ARMS, *others]:
        if arm not in counts.columns.unique("arm"):
            raise RecordError(f"{path}: status ok, but arm {arm!r} has no {mode}/{cache_state} times; rerun the cell")
        for process in counts.index[(counts[arm].to_numpy() == 0).any(axis=1)]:
            raise RecordError(f"{path}: process {process} lacks {mode}/{cache_state} times of arm {arm!r}; rerun")


def device_columns(device: Device) -> dict[str, Value]:
    """What every row of a cell says of the device that measured it."""
    return {"device": device.kind, "device_name": device.name, "device_uuid": device.uuid}


def require_columns(path: Path, rows: pd.DataFrame, expected: Mapping[str, Value]) -> None:
    """Every row holds these values: rows of another device, layer or dtype are no replicate of this cell."""
    for column, value in expected.items():
        differs = rows[column].notna() if value is None else rows[column] != value
        if differs.any():
            other = rows[differs].iloc[0]
            raise RecordError(
                f"{path}: {column} is {_plain(other[column])!r} in process {other['process']}, expected {value!r} as "
                "in the record's facts: it holds rows of something else; delete it and rerun"
            )


def require_constant(path: Path, rows: pd.DataFrame) -> None:
    """All rows of a check or a roofline are of one context, block size, number of groups and dtype."""
    for column in CONSTANT:
        found = rows[column].unique()
        if len(found) > 1:
            raise RecordError(
                f"{path}: {column} is {_plain(found[0])!r} in some rows and {_plain(found[1])!r} in others, expected "
                "one value; delete it and rerun"
            )


def require_processes(path: Path, rows: pd.DataFrame, replicates: Sequence[Replicate]) -> None:
    """The rows are of the replicates that the facts name, and of each of them."""
    known = [replicate.process for replicate in replicates]
    missing = rows["process"].isna()
    found = set() if missing.any() else {int(process) for process in rows["process"].unique()}
    if missing.any() or found != set(known) or len(known) != len(set(known)):
        seen = "null" if missing.any() else sorted(found)
        raise RecordError(f"{path}: process is {seen}, expected the replicates {sorted(known)}; delete it and rerun")


def require_positive(path: Path, rows: pd.DataFrame) -> None:
    """A recorded time is above 0: an event that measured less is broken, whatever it measured."""
    smallest = rows["value_ns"].min()
    if smallest <= 0:
        raise RecordError(f"{path}: a value_ns is {smallest:g}, expected a positive time; rerun it")


def _plain(value: object) -> object:
    """A cell of a table as Python prints it, a null as None."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
