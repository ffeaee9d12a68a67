"""The run that is there: the configuration that its report was made from, and what is gone of its files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from nsa import backends
from nsa.config import Config, load, recorded
from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.pipeline.stages import REPORT
from nsa.records import files, stamp
from nsa.records.facts import SCHEMA_VERSION
from nsa.records.stamp import Gone
from nsa.records.words import FILES


def configuration(layout: Layout, otherwise: Path, environ: Mapping[str, str]) -> Config:
    """The configuration of the run in a results folder, which no later `snakemake -n` and no edit changes.

    Args:
        layout: the results folder.
        otherwise: a config.yaml, which is read with the flags in `environ` where nothing has been run.
        environ: where those flags are read.

    Raises:
        RecordError: the report's gate.json, or without a report its stage's stamp, is broken or of another version.
        ConfigError: config.yaml is missing, is not YAML, or holds a wrong value.
    """
    if layout.gate.exists():
        return reported(layout)
    if layout.stamp(REPORT).exists():
        return stamped(layout)
    return load(otherwise, environ)


def is_there(layout: Layout) -> bool:
    """Whether a run, or a dry run, has left its configuration in a results folder."""
    return layout.gate.exists() or layout.stamp(REPORT).exists()


def reported(layout: Layout) -> Config:
    """The configuration that the report was made from, as its gate.json says.

    Raises:
        RecordError: gate.json is missing, broken or of another version.
    """
    found = files.read_json(layout.gate)
    if (version := found.get("schema_version")) != SCHEMA_VERSION:
        raise RecordError(
            f"{layout.gate}: schema version {version!r}, expected {SCHEMA_VERSION} (see CHANGELOG.md); "
            f"delete {layout.gate} and run `snakemake`"
        )
    return recorded(found, layout.gate)


def stamped(layout: Layout) -> Config:
    """The configuration that the report would be made from, as its stage's stamp says.

    Raises:
        RecordError: the stamp is missing, broken or of another version.
    """
    path = layout.stamp(REPORT)
    return recorded(stamp.read(path).settings, path)


def gone(layout: Layout) -> Gone:
    """What is missing of the last report and of its records; as it was noted before when nothing is missing now.

    Snakemake takes a report for whole while it is newer than what is left of its records. What is gone is a part of the
    report's stamp, so that the report runs again, and with it what it is made of. So does what was overwritten, and a
    gate.json that does not say which run it is of.
    """
    missing = [path for path in _of_last_report(layout) if not path.exists()]
    missing += [path for path in changed(layout) if path not in missing]
    if not missing and layout.report.exists() and not _says_its_run(layout):
        missing.append(layout.gate)
    if missing:
        return Gone(files=tuple(map(str, missing)), noticed_ns=time.time_ns())
    try:
        noted = stamp.read(layout.stamp(REPORT)).gone
    except RecordError:  # there is none, or it is broken and is about to be written anew
        noted = None
    return noted or Gone()


def changed(layout: Layout) -> dict[Path, str]:
    """The files that the last report wrote and that are not as it wrote them, with what became of each.

    None of a report that cannot be read, or that is of before these were noted.
    """
    try:
        written = files.read_json(layout.gate).get(FILES) if layout.report.exists() else None
    except RecordError:  # see `nsa doctor`
        return {}
    found: dict[Path, str] = {}
    for name, digest in (written if isinstance(written, dict) else {}).items():
        path = layout.root / name
        if not path.is_file():
            found[path] = "missing"
        elif files.sha256(path) != digest:
            found[path] = "not as the report wrote it"
    return found


def _says_its_run(layout: Layout) -> bool:
    try:
        reported(layout)
    except RecordError:
        return False
    return True


def _of_last_report(layout: Layout) -> Iterator[Path]:
    """The files of the last report and of its records; none where there is no report."""
    if not layout.report.exists():
        return
    yield from (layout.gate, layout.html, layout.run_file, layout.csv, layout.checks)
    yield layout.environment
    try:
        config = reported(layout)
    except RecordError:  # see `nsa doctor`
        return
    for backend in config.backends:
        yield from (layout.cell(backend, S) for S in config.contexts)
        if backend in config.selecting:
            yield from (layout.check(backend), layout.dram(backend))
        if backend in config.coring:
            yield layout.core(backend)
        own = backends.spec(backend).stage
        if own is not None:
            yield layout.artifact(own.artifact)
