"""What became of a stage: it ran, with its facts, or why it did not; and the header that every record has."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import Field

from nsa.records.facts import SCHEMA_VERSION, Device, Digests, Provenance
from nsa.records.merge import Model

F = TypeVar("F", bound=Model)


class Ok(Model, Generic[F]):
    """It ran; its facts say how, and the table holds the rest."""

    status: Literal["ok"] = "ok"
    facts: F

    reason: None = None
    fix: None = None


class Missed(Model):
    """It did not run: why, in one phrase, and what the user can do about it."""

    reason: str
    fix: str


class Unavailable(Missed):
    """The backend cannot run here; nothing runs in its place."""

    status: Literal["unavailable"] = "unavailable"


class Failed(Missed):
    """The backend, the compiler or the profiler failed."""

    status: Literal["failed"] = "failed"


class OutOfMemory(Missed):
    """It does not fit into the device's memory."""

    status: Literal["oom"] = "oom"


class Skipped(Missed):
    """It was not asked for, or is optional and cannot be done here."""

    status: Literal["skipped"] = "skipped"


class Stale(Missed):
    """The record is not of today's sources, settings or machine; said by its reader, never written."""

    status: Literal["stale"] = "stale"


class Invalid(Missed):
    """The record is broken or foreign; said by its reader, never written."""

    status: Literal["invalid"] = "invalid"


NotRun = Unavailable | Failed | OutOfMemory | Skipped


class Header(Model, Generic[F]):
    """What a record says of itself: in a Parquet file's metadata, or as the whole of a JSON file."""

    schema_version: Literal[2] = SCHEMA_VERSION
    stage: str  # decode, check, dram, roofline
    backend: str | None = None  # None of a stage that takes all of them
    S: int | None = None  # of a decode cell
    device: Device  # where it ran or was to run
    outcome: Annotated[Ok[F] | Unavailable | Failed | OutOfMemory | Skipped, Field(discriminator="status")]
    provenance: Provenance
    stamp: Digests
