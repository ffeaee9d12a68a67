"""What is wrong with a results folder, and how to fix it: nothing is run, and nothing is changed."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from pydantic import JsonValue, ValidationError

from nsa import backends
from nsa.backends import Examine
from nsa.config import Config
from nsa.errors import RecordError
from nsa.layout import ACCEPTED, HISTORY, Layout
from nsa.machine import locks
from nsa.machine.fingerprint import package_version
from nsa.pipeline import finished, stages, stamps
from nsa.pipeline.findings import AGAIN, Finding, differences, left_out, older_version, reason_alone
from nsa.pipeline.shown import is_of, not_shown
from nsa.records import files, parquet
from nsa.records.facts import Digests, Environment
from nsa.records.made import SummaryHeader
from nsa.records.merge import Model
from nsa.report.accepted.keep import read_accepted
from nsa.report.analysis.core import read_core
from nsa.report.analysis.dram import read_dram
from nsa.report.analysis.read import Record, Stamps, differing, read_cell, read_check
from nsa.report.history import store

F = TypeVar("F", bound=Model)


def examine(layout: Layout, given: Config, path: Path, fingerprint: Mapping[str, str]) -> list[Finding]:
    """Every fault of a results folder, as seen from its own configuration and today's sources and machine.

    Args:
        layout: the folder.
        given: the configuration that the next run would have, flags included.
        path: the file that it comes from; where it differs from the run's own, that is a note and no fault.
        fingerprint: the facts of this machine, see nsa.machine.fingerprint.
    """
    if (found := locks.obstacle(layout.root)) is not None:
        what, fix = found
        return [Finding(layout.root, what, f"{fix}; then {AGAIN}")]
    if not any(layout.root.glob("[!.]*")):
        return [Finding(layout.root, "nothing has been run yet", AGAIN)]
    config = _of_run(layout) or given
    unreadable: list[str] = []
    today = stamps.today(config, fingerprint, left_out=unreadable)
    return [
        *_at_work(layout),
        *_left_behind(layout),
        *older_version(layout, ACCEPTED),
        *_stamps(layout, today),
        *_prepared(layout, config, today),
        *_measured(layout, config, today),
        *_derived(layout, config, today),
        *_accepted(ACCEPTED),
        *_history(HISTORY),
        *_another_machine(layout, today, fingerprint),
        *left_out(unreadable),
        *differences(path, given, config),
    ]


def _of_run(layout: Layout) -> Config | None:
    """The configuration that the report was or would be made from; None where neither it nor its stamp tells."""
    for read in (finished.reported, finished.stamped):
        try:
            return read(layout)
        except RecordError:  # told by _derived and _stamps
            continue
    return None


def _at_work(layout: Layout) -> Iterator[Finding]:
    """A run that is still at it, and locks of runs that are not."""
    if (run := locks.running(layout.root)) is not None:
        lock, pid = run
        yield Finding(lock, f"process {pid} is running the pipeline here", "let it end, then ask again")
    for left in sorted((layout.root.parent / ".snakemake" / "locks").glob("*.lock")):
        yield Finding(
            left, "a lock of Snakemake's own, whose run is not ours or was killed", "run `snakemake --unlock`"
        )


def _left_behind(layout: Layout) -> Iterator[Finding]:
    """What killed jobs have left: half-written files, which count as nothing, and outputs that Snakemake distrusts."""
    for left in sorted(layout.root.rglob(f".*{files.TEMPORARY}")):
        yield Finding(left, "half-written by a process that was killed; it counts as nothing", "delete it")
    marks = layout.root.parent / ".snakemake" / "incomplete"
    for mark in sorted(path for path in marks.rglob("*") if path.is_file()):
        name = "".join(part.removeprefix("@") for part in mark.relative_to(marks).parts)  # long names are split
        yield Finding(Path(urlsafe_b64decode(name).decode()), "its job was killed before it ended", AGAIN)


def _stamps(layout: Layout, today: Stamps) -> Iterator[Finding]:
    """Stamps that cannot be read; one that differs from today's is no fault of its own, its records are stale."""
    for stage in sorted(today):
        path = layout.stamp(stage)
        try:
            stamps.read(path)
        except RecordError as error:
            yield _unreadable(path, error, "run `snakemake -n`, which writes it anew")


def _another_machine(layout: Layout, today: Stamps, fingerprint: Mapping[str, str]) -> Iterator[Finding]:
    """A note with each fact of the machine that is not as it was stamped, such as nvcc 13.0.88 → none."""
    changed: dict[str, str] = {}

    @cache
    def installed(package: str) -> str:
        return package_version(package) or "none"

    for stage in sorted(today):
        try:
            stamped = stamps.read(layout.stamp(stage)).machine or {}
        except RecordError:  # told by _stamps
            continue
        now = {fact: fingerprint[fact] if fact in fingerprint else installed(fact) for fact in stamped}
        changed |= {
            fact: f"{fact} {then or 'none'} → {now[fact] or 'none'}"
            for fact, then in stamped.items()
            if now[fact] != then
        }
    if changed:
        what = f"of another machine, or other software: {', '.join(changed.values())}"
        yield Finding(layout.stamps, what, "a note: `snakemake` measures again what uses it", fault=False)


def _prepared(layout: Layout, config: Config, today: Stamps) -> Iterator[Finding]:
    """What measuring starts from: the environment, and what backends' own stages made."""
    try:
        files.read_model(layout.environment, Environment)
    except RecordError as error:
        yield _unreadable(layout.environment, error)
    if _differs(layout, "environment", today):
        yield Finding(layout.environment, "stale: another machine, or other sources, than it was probed on", AGAIN)
    for name in config.backends:
        own = backends.spec(name).stage
        if own is not None:
            found = list(_artifact(layout, own, stages.artifact(name), today))
            yield from found or _examined(layout, own)


def _artifact(layout: Layout, own: backends.Stage, stage: str, today: Stamps) -> Iterator[Finding]:
    """An artifact that is missing, broken, or stale by the stamp that it carries, else by that of its stage."""
    path = layout.artifact(own.artifact)
    try:
        found = files.read_json(path)
    except RecordError as error:
        yield _unreadable(path, error)
        return
    if missing := sorted({"status", "reason", "fix"} - set(found)):
        yield Finding(path, f"invalid: it lacks {', '.join(missing)}", _delete(path))
    elif found.get("stamp") is not None:
        yield from _stale(path, found["stamp"], today[stage], _again(layout, path, stage, today))
    elif _differs(layout, stage, today):
        yield Finding(path, "stale: its sources, settings or machine changed since it was made", AGAIN)


def _examined(layout: Layout, own: backends.Stage) -> Iterator[Finding]:
    """What the backend itself finds wrong with what its artifact names."""
    if own.examine is None:
        return
    path, look = layout.artifact(own.artifact), cast(Examine, backends.resolve(own.examine))
    try:
        yield from (Finding(where, what, fix) for where, what, fix in look(path))
    except RecordError as error:
        yield _unreadable(path, error)


def _measured(layout: Layout, config: Config, today: Stamps) -> Iterator[Finding]:
    """The cells, the kernel and core checks, and the DRAM counts."""
    for backend in config.backends:
        for S in config.contexts:
            path = layout.cell(backend, S)
            yield from _record(path, read_cell(path, today), _again(layout, path, f"decode-{backend}", today))
    for backend in config.selecting:
        check, dram = layout.check(backend), layout.dram(backend)
        yield from _record(check, read_check(check, today), _again(layout, check, f"check-{backend}", today))
        yield from _record(dram, read_dram(dram, today), _again(layout, dram, f"dram-{backend}", today))
    for backend in config.coring:
        core = layout.core(backend)
        yield from _record(core, read_core(core, today), _again(layout, core, f"core-{backend}", today))


def _derived(layout: Layout, config: Config, today: Stamps) -> Iterator[Finding]:
    """The report, and the summaries that somebody asked for: of today's sources, and of the records that are there."""
    cells = {backend: [layout.cell(backend, S) for S in config.contexts] for backend in config.backends}
    for backend, parts in cells.items():
        path = layout.summary(backend)
        if path.exists():
            try:
                _, header = parquet.read(path, SummaryHeader)
            except RecordError as error:
                yield _unreadable(path, error, f"delete {path}, or run `snakemake {path}`")
                continue
            again = _again(layout, path, "collect", today, f"run `snakemake {path}`")
            yield from _stale(path, header.stamp, today["collect"], again)
            if all(part.exists() for part in parts) and not is_of(path, header, parts):
                yield Finding(path, "not of the cells that are there", f"delete {path}, or run `snakemake {path}`")
    try:
        finished.reported(layout)
        again = _again(layout, layout.gate, stages.REPORT, today)
        stamp = files.read_json(layout.gate).get("stamp")
        yield from _stale(layout.gate, stamp, today[stages.REPORT], again, "settings or the accepted run")
    except RecordError as error:
        yield _unreadable(layout.gate, error)
        return
    if not layout.report.exists():
        yield Finding(layout.report, "missing", AGAIN)
        return
    for path, what in finished.changed(layout).items():
        yield Finding(path, what, AGAIN)
    for path in not_shown(layout, config):
        yield Finding(layout.report, f"shows another {path} than is there", _delete(layout.gate))


def _accepted(folder: Path) -> Iterator[Finding]:
    """Accepted runs with which no report can be compared."""
    for path in sorted(folder.glob("*.parquet")):
        try:
            read_accepted(path)
        except RecordError as error:
            yield _unreadable(path, error, f"delete it, or restore it from git; then {AGAIN}")


def _history(folder: Path) -> Iterator[Finding]:
    """Histories to which no report can add, nor show."""
    for path in sorted(folder.glob("*.parquet")):
        try:
            store.read(path)
        except RecordError as error:
            yield _unreadable(path, error, f"move {path} away, and the next report begins a new one")


def _record(path: Path, record: Record[F], again: str) -> Iterator[Finding]:
    """A record that the report would not use."""
    if not path.exists():
        yield Finding(path, "missing", AGAIN)
    elif record.status in ("stale", "invalid"):
        fix = again if record.status == "stale" else _delete(path)
        yield Finding(path, f"{record.status}: {reason_alone(path, str(record.reason))}", fix)


def _stale(
    path: Path, carried: JsonValue | Digests, now: Digests, fix: str = AGAIN, settings: str = "settings"
) -> Iterator[Finding]:
    """A file whose stamp is not today's; one that carries none is of nobody knows what."""
    try:
        then = carried if isinstance(carried, Digests) else Digests.model_validate(carried)
    except ValidationError:
        yield Finding(path, "invalid: it does not say under which stamp it was made", _delete(path))
        return
    if differ := differing(then, now):
        what = ", ".join(settings if each == "settings" else each for each in differ)
        yield Finding(path, f"stale: {what} changed since it was made", fix)


def _again(layout: Layout, path: Path, stage: str, today: Stamps, run: str = AGAIN) -> str:
    """What makes a stale file anew: a run, but for one that `snakemake --touch` has passed off as made from its stamp.

    Snakemake then takes it for whole, and makes it again only when it is gone.
    """
    stamp = layout.stamp(stage)
    try:
        seen = stamps.read(stamp).carried == today.get(stage)
    except RecordError:  # told by _stamps
        return run
    touched = seen and path.exists() and path.stat().st_mtime_ns >= stamp.stat().st_mtime_ns
    return f"delete {path}, then {run}" if touched else run


def _differs(layout: Layout, stage: str, today: Stamps) -> bool:
    try:
        return stamps.read(layout.stamp(stage)).carried != today[stage]
    except RecordError:  # told by _stamps
        return False


def _unreadable(path: Path, error: RecordError, fix: str | None = None) -> Finding:
    if not path.exists():
        return Finding(path, "missing", fix or AGAIN)
    return Finding(path, f"invalid: {reason_alone(path, str(error))}", fix or _delete(path))


def _delete(path: Path) -> str:
    return f"delete {path}, then {AGAIN}"
