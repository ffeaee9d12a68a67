"""The stamp of a stage: what its results depend on, and the settings that its command reads."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import JsonValue

from nsa.errors import Disturbed, RecordError
from nsa.records import files
from nsa.records.facts import Digests
from nsa.records.merge import Model


class Sources(Model):
    """The files that a stage executes or reads, and the digest of their names and bytes."""

    digest: str
    files: tuple[str, ...]

    def require_unchanged(self) -> None:
        """Look at the files again: what was measured while they changed is of no sources that anybody could name.

        Raises:
            Disturbed: one of them is another, or gone.
        """
        if digest({name: _located(name) for name in self.files}) != self.digest:
            raise Disturbed("a source of this stage was edited while it ran, so nothing is recorded; run it again")


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


def of_file(file: Path) -> str:
    """The digest of a source's bytes; an empty one where it is not there."""
    return files.sha256(file) if file.is_file() else ""


def digest(sources: Mapping[str, Path], digest_of: Callable[[Path], str] = of_file) -> str:
    """The digest of some files' names and bytes."""
    lines = [f"{name} {digest_of(file)}\n" for name, file in sources.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _located(name: str) -> Path:
    """Where a source lies, "nsa/shapes.py" for example, wherever its outermost package is installed."""
    spec = importlib.util.find_spec(name.partition("/")[0])
    folders = (spec.submodule_search_locations if spec else None) or ()
    places = [Path(folder).parent / name for folder in folders]
    return next((place for place in places if place.is_file()), Path(name))
