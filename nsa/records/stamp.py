"""The stamp of a stage: what its results depend on, and the settings that its command reads."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from nsa.errors import RecordError
from nsa.records import files
from nsa.records.facts import Digests
from nsa.records.merge import Model


class Sources(Model):
    """The files that a stage executes or reads, and the digest of their names and bytes."""

    digest: str
    files: tuple[str, ...]


class Gone(Model):
    """What was found missing of the last report, or of the records that it was made of.

    With the time, a stamp differs from the last one although the same file is deleted a second time.
    """

    files: tuple[str, ...] = ()
    noticed_ns: int = 0


class Stamp(Model):
    """What one stage depends on: written when the Snakefile is parsed, read by the stage's command.

    Attributes:
        machine: the facts of the machine that the stage uses; None where another machine gives the same result.
        gone: of the report's stamp only; no digest covers it, so that it makes nothing stale.
    """

    stage: str
    sources: Sources
    settings: dict[str, JsonValue]
    settings_digest: str
    machine: dict[str, str] | None
    machine_digest: str | None
    gone: Gone | None = None

    @property
    def carried(self) -> Digests:
        """What a record carries of the stamp that it was made under."""
        return Digests(sources=self.sources.digest, settings=self.settings_digest, machine=self.machine_digest)


def read(path: Path) -> Stamp:
    """Read a stamp.

    Raises:
        RecordError: the file is missing or is no stamp.
    """
    try:
        return files.read_model(path, Stamp)
    except RecordError as error:
        raise RecordError(f"{str(error).rpartition(';')[0]}; run `snakemake -n`, which writes it anew") from error
