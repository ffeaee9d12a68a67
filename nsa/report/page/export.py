"""What machines read of the report: gate.json and decode.csv."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from nsa.config import GateSettings
from nsa.records import files, parquet
from nsa.report.accepted.compare import Comparison
from nsa.report.analysis.summary import GUIDE, SUMMARY, Row
from nsa.report.verdict.checks import Check
from nsa.report.verdict.gates import Accept, Invest

CSV_COLUMNS = ("S", *GUIDE, *(name for name in SUMMARY.names if name != "S" and name not in GUIDE))  # the guide's first


def gate(
    invest: Invest,
    accepts: Sequence[Accept],
    rows: Sequence[Row],
    checks: Sequence[Check],
    comparison: Comparison,
    settings: GateSettings,
    origin: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of gate.json: both verdicts with figures, what changed, anomalies and provenance."""
    document: dict[str, Any] = {
        "schema_version": parquet.SCHEMA_VERSION,
        "invest": asdict(invest),
        "accept": {
            accept.backend: {
                **asdict(accept),
                "wrong_shapes": [str(shape.figures.shape) for shape in accept.shapes if shape.correct is False],
            }
            for accept in accepts
        },
        "decode": [dict(row) for row in rows],
        "comparison": asdict(comparison),
        "anomalies": [asdict(check) for check in checks if check.fired],
        "thresholds": asdict(settings),
        **origin,
    }
    return {key: finite(value) for key, value in document.items()}


def finite(value: Any) -> Any:
    """The same with null for NaN and infinities, which JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_gate(path: Path, document: Mapping[str, Any]) -> None:
    """Write gate.json."""
    files.write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write decode.csv: every cell of every backend; one that did not run has its status and no figures."""
    frame = pd.DataFrame([dict(row) for row in rows], columns=list(CSV_COLUMNS))
    for name in SUMMARY.names:
        if str(SUMMARY.field(name).type).startswith("int"):
            frame[name] = frame[name].astype("Int64")  # keeps whole numbers whole beside missing ones
    files.write_text(path, frame.to_csv(index=False, float_format="%.9g"))
