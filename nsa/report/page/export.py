"""What machines read of the report: gate.json and decode.csv."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, JsonValue

from nsa.config import Config
from nsa.records import files
from nsa.records.facts import SCHEMA_VERSION
from nsa.records.words import Scalar
from nsa.report.accepted.compare import Comparison
from nsa.report.analysis.aa import Control
from nsa.report.analysis.summary import GUIDE, SUMMARY, CellSummary, flat
from nsa.report.verdict.cores import CoreAccept
from nsa.report.verdict.gates import Accept
from nsa.report.verdict.run import Run

CSV_COLUMNS = ("S", *GUIDE, *(name for name in SUMMARY.names if name != "S" and name not in GUIDE))  # the guide's first


def gate(run: Run, comparison: Comparison, config: Config, origin: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The content of gate.json: every verdict with figures, what changed, anomalies, and what it was made from.

    Args:
        origin: what else it says of where it comes from, by top-level key.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "invest": as_json(run.invest),
        "accept": {accept.backend: _accept(accept) for accept in run.accepts},
        "cores": {core.backend: _accept(core) for core in run.core_accepts},
        "decode": [as_json({**flat(each), **_control(run.controls.get(each.cell.name))}) for each in run.cells],
        "comparison": as_json(comparison),
        "anomalies": [as_json(check) for check in run.checks if check.fired],
        "thresholds": as_json(config.gates),
        "config": config.document(),
        "flags": {**config.flags.values},
        **origin,
    }


def _accept(found: Accept | CoreAccept) -> dict[str, JsonValue]:
    recorded = {field.name: as_json(getattr(found, field.name)) for field in fields(found)}
    return {**recorded, "wrong_shapes": [*found.wrong_shapes]}


def _control(found: Control | None) -> dict[str, Scalar]:
    """The interval that blocks a cell, beside the plain one that the tables show."""
    return {
        "aa_cells": found.controls if found else None,
        "aa_confidence": found.confidence if found else None,
        "aa_run_lo": found.ratio.low if found else None,
        "aa_run_hi": found.ratio.high if found else None,
    }


def as_json(value: object) -> JsonValue:
    """Models, dataclasses and what they hold as JSON, with null for NaN and infinities, which JSON does not have.

    Raises:
        TypeError: it has no form in JSON.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, BaseModel):
        return as_json(value.model_dump(mode="json"))
    if is_dataclass(value):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")


def write_gate(path: Path, document: Mapping[str, JsonValue]) -> None:
    """Write gate.json."""
    files.write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, cells: Sequence[CellSummary]) -> None:
    """Write decode.csv: every cell of every backend; one that did not run has its status and no figures."""
    frame = pd.DataFrame([flat(each) for each in cells], columns=list(CSV_COLUMNS))
    for name in SUMMARY.names:
        if str(SUMMARY.field(name).type).startswith("int"):
            frame[name] = frame[name].astype("Int64")  # keeps whole numbers whole beside missing ones
    files.write_text(path, frame.to_csv(index=False, float_format="%.9g"))
