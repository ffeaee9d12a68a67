"""Headers of what the report makes of other records: the summary of a backend, the table of checks, an accepted run…"""

from __future__ import annotations

from typing import Literal

from pydantic import JsonValue

from nsa.records.decode import DecodeFacts
from nsa.records.facts import SCHEMA_VERSION, Digests
from nsa.records.merge import Model


class SummaryHeader(Model):
    """A backend's decode cells as one table.

    Attributes:
        confidence: of the intervals in it.
        cells: the facts of the cells that ran, by name.
        stamp: of the stage that made it; None where nothing is stamped.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: Literal["summary"] = "summary"
    confidence: float
    cells: dict[str, DecodeFacts]
    stamp: Digests | None


class ChecksHeader(Model):
    """Every automatic check of one report, those that did not fire among them."""

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: Literal["checks"] = "checks"


class Identity(Model):
    """When a record was measured and of what: two records with the same identity are one."""

    utc_time: str
    git_commit: str | None
    stamp: Digests


class AcceptedHeader(Model):
    """The accepted run of one model of GPU.

    Attributes:
        model: of the GPU, or of the CPU.
        software: the versions that its records name, by what they are of.
        timed: the settings that say what was timed, of decode and of check, by their dotted keys.
        records: what was kept, by name.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: Literal["accepted"] = "accepted"
    model: str
    device: Literal["cpu", "cuda"]
    accepted_utc: str
    git_commit: str | None
    git_dirty: bool | None
    software: dict[str, str]
    timed: dict[str, dict[str, JsonValue]]
    records: dict[str, Identity]


class CoreCurveHeader(Model):
    """Decode cores over S and B, as one table."""

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: Literal["core-curve"] = "core-curve"


class HistoryHeader(Model):
    """What one model of GPU measured over time."""

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: Literal["history"] = "history"
    model: str


class PaperTableHeader(Model):
    """Decode cores over dense attention, as one table."""

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: Literal["paper-table"] = "paper-table"
