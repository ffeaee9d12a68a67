"""One stamp per stage: the sources, the settings and the machine that its results depend on.

Snakemake compares the content of a rule's inputs, but never looks into an imported module, and without its metadata
not at `params` either. So each rule takes its stage's stamp as an input, and its command reads the settings from it:
what was stamped is what runs. A stamp is rewritten only when it changed, so that only the affected stages run again.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from nsa.config import Config
from nsa.layout import ACCEPTED, Layout
from nsa.machine.fingerprint import TOOLS, package_version
from nsa.pipeline import finished
from nsa.pipeline.sources import Code, Unreadable
from nsa.pipeline.stages import REPORT, Stage, stages
from nsa.records import files
from nsa.records.facts import Digests
from nsa.records.stamp import Sources, Stamp, digest, of_file, read

__all__ = ["Stamp", "digests", "read", "today", "write"]


def write(config: Config, fingerprint: Mapping[str, str], layout: Layout, accepted: Path = ACCEPTED) -> tuple[str, ...]:
    """Write the stamp of every stage for which it is new or has changed.

    Args:
        config: the validated configuration, flags included.
        fingerprint: the facts of this machine, see nsa.machine.fingerprint.
        layout: the results folder.
        accepted: the folder of accepted runs.

    Returns:
        A line for each installed backend that nobody asked for and whose stages have no stamp, with the reason.

    Raises:
        RecordError: the folder cannot be written: read-only, a full disk.
        ConfigError: the sources of a backend that was asked for, or our own, cannot be told.
    """
    left_out: list[str] = []
    for stamp in _make(config, fingerprint, accepted, left_out):
        path = layout.stamp(stamp.stage)
        if stamp.stage == REPORT:
            stamp = stamp.model_copy(update={"gone": finished.gone(layout)})
        text = json.dumps(stamp.model_dump(mode="json"), indent=1, sort_keys=True)
        _write_if_changed(path, text + "\n")
    return tuple(dict.fromkeys(left_out))


def digests(folder: Path) -> dict[str, Digests]:
    """What records of each stage must carry to be of the stamps in a folder."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return {stamp.stage: stamp.carried for stamp in found}


def today(
    config: Config, fingerprint: Mapping[str, str], accepted: Path = ACCEPTED, left_out: list[str] | None = None
) -> dict[str, Digests]:
    """The same of the stamps as they would be written now, whatever an earlier parse left in the folder.

    Args:
        config, fingerprint, accepted: as of write.
        left_out: receives the lines that write returns.
    """
    out: list[str] = [] if left_out is None else left_out
    return {stamp.stage: stamp.carried for stamp in _make(config, fingerprint, accepted, out)}


def _make(config: Config, fingerprint: Mapping[str, str], accepted: Path, left_out: list[str]) -> Iterator[Stamp]:
    code, digest_of = Code(), functools.cache(of_file)
    for stage in stages(config, accepted):
        try:
            sources = code.sources(stage)
        except Unreadable as error:
            if error.backend in config.backends:
                raise
            left_out.append(str(error))
            continue
        machine = _machine(stage, fingerprint)
        yield Stamp(
            stage=stage.name,
            sources=Sources(digest=digest(sources, digest_of), files=tuple(sources)),
            settings=stage.settings,
            settings_digest=_digest_json(stage.settings),
            machine=machine,
            machine_digest=None if machine is None else _digest_json(machine),
        )


def _machine(stage: Stage, fingerprint: Mapping[str, str]) -> dict[str, str] | None:
    """The facts that the stage uses: those of everything measured, and the versions of its own tools and packages."""
    if not stage.on_machine:
        return None
    common = {fact: value for fact, value in fingerprint.items() if fact not in TOOLS}
    own = {name: fingerprint.get(name) or package_version(name) or "none" for name in stage.uses}
    return common | own


def _digest_json(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write_if_changed(path: Path, text: str) -> None:
    try:
        same = path.read_bytes() == text.encode()
    except OSError:  # there is none, or one that nobody can read
        same = False
    if not same:
        files.write_text(path, text)
