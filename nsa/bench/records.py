"""How a timed stage opens its inputs and writes its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue

from nsa import backends
from nsa.bench.runner import Result
from nsa.config import Flags
from nsa.errors import ConfigError
from nsa.machine.environment import provenance
from nsa.machine.host import Host
from nsa.records import files
from nsa.records import stamp as stamps
from nsa.records.facts import Digests, Environment, Provenance
from nsa.records.merge import Model
from nsa.records.outcome import Header
from nsa.records.stamp import Sources
from nsa.settings import Settings, parse

F = TypeVar("F", bound=Model)
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Opened:
    """What a stage starts from: its settings, where it runs, and what its record says of its origin."""

    stamp: Path
    settings: Mapping[str, JsonValue]
    host: Host
    provenance: Provenance
    digests: Digests
    sources: Sources

    def section(self, key: str, model: type[S], complete: bool = True) -> S:
        """A section of the stamped settings; one that is stamped in part (not complete) has defaults elsewhere.

        Raises:
            ConfigError: it is not what the model says.
        """
        return parse(model, self.settings[key], str(self.stamp), complete=complete)


def open_stage(stamp: Path, environment: Path, artifacts: Sequence[Path]) -> Opened:
    """Read a stage's inputs.

    Args:
        stamp: of the stage: what was stamped is what runs.
        environment: the probed machine.
        artifacts: what backends' own stages made before.

    Raises:
        RecordError: an input is missing or broken.
        ConfigError: CUDA was asked for and is not there.
    """
    stamped, seen = stamps.read(stamp), files.read_model(environment, Environment)
    made = {backend_of(path): files.read_json(path) for path in artifacts}
    flags = Flags(_flags(stamped.settings["flags"]))
    host = Host.of(str(stamped.settings["device"]), flags, seen, made)
    return Opened(stamp, stamped.settings, host, provenance(seen), stamped.carried, stamped.sources)


def _flags(stamped: JsonValue) -> dict[str, bool]:
    assert isinstance(stamped, dict)
    return {variable: value is True for variable, value in stamped.items()}


def backend_of(artifact: Path) -> str:
    """The backend whose own stage makes this artifact.

    Raises:
        ConfigError: none does.
    """
    name = backends.maker(artifact)
    if name is None:
        raise ConfigError(f"--artifacts: got {artifact}, expected the artifact of a backend's own stage")
    return name


def write(
    out: Path,
    opened: Opened,
    stage: str,
    result: Result[F],
    backend: str | None,
    S: int | None = None,
) -> None:
    """Write a stage's Parquet record, whatever its outcome; raises as `header` does."""
    from nsa.records import parquet, schemas  # Arrow: the runner imports it while the processes start

    parquet.write(out, result.rows, schemas.OF_STAGE[stage], header(opened, stage, result, backend, S))


def header(opened: Opened, stage: str, result: Result[F], backend: str | None, S: int | None = None) -> Header[F]:
    """What a record says of itself, made when all is measured.

    Raises:
        Disturbed: a source of the stage changed while it ran.
    """
    opened.sources.require_unchanged()
    return Header[F](
        stage=stage,
        backend=backend,
        S=S,
        device=result.device,
        outcome=result.outcome,
        provenance=opened.provenance,
        stamp=opened.digests,
    )
