"""A stage's stamp: the sources, the settings and the machine that its results depend on; see nsa.pipeline.stamps."""

from __future__ import annotations

from pydantic import JsonValue

from nsa.records.facts import Digests
from nsa.records.merge import Model


class Sources(Model):
    """The files that a stage executes or reads, and their digest."""

    digest: str
    files: tuple[str, ...]


class Stamp(Model):
    """What one stage's results depend on; its command reads its settings from here, so what was stamped is what runs."""

    stage: str
    sources: Sources
    settings: dict[str, JsonValue]
    settings_digest: str
    machine: dict[str, str] | None  # None where another machine gives the same result
    machine_digest: str | None

    @property
    def carried(self) -> Digests:
        """What a record carries of the stamp that it was made under."""
        return Digests(sources=self.sources.digest, settings=self.settings_digest, machine=self.machine_digest)
