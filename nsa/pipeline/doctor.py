"""What is wrong with a results folder, and how to fix it: nothing is run, and nothing is changed."""

from __future__ import annotations

import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa.config import Config
from nsa.errors import RecordError
from nsa.kernels import cuda
from nsa.kernels.cuda import build
from nsa.machine import locks
from nsa.pipeline import stamps
from nsa.records import files, parquet
from nsa.report.analysis import read as cells
from nsa.report.analysis.dram import read_dram

AGAIN = "run `snakemake`"
Stamps = cells.Stamps


@dataclass(frozen=True)
class Finding:
    """One fault of the folder.

    Attributes:
        where: the file, as a user would name it.
        what: what is wrong with it.
        fix: what to do about it.
    """

    where: Path
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.fix}"


def examine(results: Path, config: Config, fingerprint: Mapping[str, str]) -> list[Finding]:
    """Every fault of a results folder, as seen from today's sources, settings and machine; none when it is sound.

    Args:
        results: the folder.
        config: the configuration that the results are meant to be of.
        fingerprint: the facts of this machine, see nsa.machine.fingerprint.
    """
    if not any(results.glob("[!.]*")):
        return [Finding(results, "nothing has been run yet", AGAIN)]
    today = stamps.today(config, fingerprint)
    return [
        *_at_work(results),
        *_left_behind(results),
        *_stamps(results, today),
        *_prepared(results, config, today),
        *_measured(results, config, today),
        *_derived(results, config, today),
    ]


def _at_work(results: Path) -> Iterator[Finding]:
    """A run that is still at it, and locks of runs that are not."""
    lock = results / locks.RUN
    if (pid := locks.holder(lock)) is not None:
        yield Finding(lock, f"process {pid} is running the pipeline here", "let it end, then ask again")
    for left in sorted((results.parent / ".snakemake" / "locks").glob("*.lock")):
        yield Finding(
            left, "a lock of Snakemake's own, whose run is not ours or was killed", "run `snakemake --unlock`"
        )


def _left_behind(results: Path) -> Iterator[Finding]:
    """What killed jobs have left: half-written files, which count as nothing, and outputs that Snakemake distrusts."""
    for left in sorted(results.rglob(f".*{files.TEMPORARY}")):
        yield Finding(left, "half-written by a process that was killed; it counts as nothing", "delete it")
    marks = results.parent / ".snakemake" / "incomplete"
    for mark in sorted(path for path in marks.rglob("*") if path.is_file()):
        name = "".join(part.removeprefix("@") for part in mark.relative_to(marks).parts)  # long names are split
        yield Finding(Path(urlsafe_b64decode(name).decode()), "its job was killed before it ended", AGAIN)


def _stamps(results: Path, today: Stamps) -> Iterator[Finding]:
    """Stamps that cannot be read; one that differs from today's is no fault of its own, its records are stale."""
    folder = results / ".stamps"
    for stage in sorted(today):
        path = folder / f"{stage}.json"
        try:
            stamps.read(path)
        except RecordError as error:
            yield _unreadable(path, error, "run `snakemake -n`, which writes it anew")


def _prepared(results: Path, config: Config, today: Stamps) -> Iterator[Finding]:
    """The records that measuring starts from: the environment, the CUDA build and the tuned cuts."""
    environment = results / "environment.json"
    yield from _json(environment, None, {"cuda", "device", "cpu"})
    if _differs(results, "environment", today):
        yield Finding(environment, "stale: another machine, or other sources, than it was probed on", AGAIN)
    if "cuda" in config.backends:
        manifest = results / "build" / "cuda.json"
        found = list(_json(manifest, today.get("build"), {"status", "library", "archs"}))
        yield from found or _library(manifest)
    if "triton" in config.backends:
        yield from _json(results / "tune" / "triton.json", today.get("tune"), {"status"})


def _measured(results: Path, config: Config, today: Stamps) -> Iterator[Finding]:
    """The cells, the kernel checks and the DRAM counts."""
    for backend in config.backends:
        for S in config.contexts:
            path = results / "decode" / backend / f"S{S}.parquet"
            yield from _record(path, cells.read_cell(path, today))
        check, dram = results / f"check_{backend}.parquet", results / f"dram_{backend}.json"
        yield from _record(check, cells.read_check(check, today))
        yield from _record(dram, read_dram(dram, today))


def _derived(results: Path, config: Config, today: Stamps) -> Iterator[Finding]:
    """The summaries and the report: of today's sources, and newer than what they were made from."""
    for backend in config.backends:
        path = results / f"decode_{backend}.parquet"
        try:
            _, facts = parquet.read(path)
        except RecordError as error:
            yield _unreadable(path, error)
            continue
        parts = [results / "decode" / backend / f"S{S}.parquet" for S in config.contexts]
        yield from _stale(path, facts, today.get("collect"))
        yield from _older(path, parts)
    gate, report = results / "gate.json", results / "gate_report.md"
    found = list(_json(gate, today.get("report"), {"invest", "accept", "decode"}))
    yield from found
    if not report.exists():
        yield Finding(report, "missing", AGAIN)
    elif not found:
        yield from _older(report, [*results.glob("decode_*.parquet"), *results.glob("check_*.parquet")])


def _record(path: Path, record: cells.Record) -> Iterator[Finding]:
    """A record that the report would not use."""
    if not path.exists():
        yield Finding(path, "missing", AGAIN)
    elif record.status in ("stale", "invalid"):
        reason = str(record.reason).removeprefix(f"{path}: ")
        yield Finding(path, f"{record.status}: {reason}", AGAIN if record.status == "stale" else _delete(path))


def _json(path: Path, stamp: Mapping[str, str] | None, keys: set[str]) -> Iterator[Finding]:
    """A JSON record that is missing, broken, foreign, or stale under today's stamp."""
    try:
        facts = files.read_json(path)
    except RecordError as error:
        yield _unreadable(path, error)
        return
    if missing := sorted(keys - set(facts)):
        yield Finding(path, f"invalid: it lacks {', '.join(missing)}", _delete(path))
    elif stamp is not None:
        yield from _stale(path, facts, stamp)


def _stale(path: Path, facts: Mapping[str, Any], stamp: Mapping[str, str] | None) -> Iterator[Finding]:
    then = facts.get("stamp") or {}
    if stamp and (differ := [key for key in cells.STAMP_KEYS if stamp.get(key) != then.get(key)]):
        yield Finding(path, f"stale: {', '.join(differ)} changed since it was made", AGAIN)


def _older(path: Path, parts: list[Path]) -> Iterator[Finding]:
    made = path.stat().st_mtime_ns
    for part in parts:
        if part.exists() and part.stat().st_mtime_ns > made:
            yield Finding(path, f"older than {part}, which it is made from", AGAIN)
            return


def _differs(results: Path, stage: str, today: Stamps) -> bool:
    path = results / ".stamps" / f"{stage}.json"
    try:
        return stamps.carried(stamps.read(path)) != today[stage]
    except RecordError:  # told by _stamps
        return False


def _library(manifest: Path) -> Iterator[Finding]:
    """A built extension that is gone, damaged, for other GPUs, or does not load; torch is asked last, in a process."""
    built = files.read_json(manifest)
    if built["status"] != "built":
        return
    library = Path(built["library"])
    lacking = sorted(set(build.native_archs()) - set(built["archs"]))
    if not library.is_file():
        yield Finding(library, "missing", cuda.REBUILD)
    elif cuda.sha256(library) != built.get("library_sha256"):
        yield Finding(library, "damaged: not the library that was built", cuda.REBUILD)
    elif lacking:
        known = ", ".join(built["archs"])
        yield Finding(library, f"has no code for sm_{', sm_'.join(lacking)}, only for {known}", cuda.REBUILD)
    else:
        load = [sys.executable, "-c", "import sys, torch; torch.ops.load_library(sys.argv[1])", str(library)]
        said = subprocess.run(load, capture_output=True, text=True, check=False)
        if said.returncode != 0:
            why = (said.stderr.strip().splitlines() or [f"exit status {said.returncode}"])[-1]
            yield Finding(library, f"does not load ({why})", cuda.REBUILD)


def _unreadable(path: Path, error: RecordError, fix: str | None = None) -> Finding:
    if not path.exists():
        return Finding(path, "missing", fix or AGAIN)
    return Finding(path, f"invalid: {str(error).removeprefix(f'{path}: ').partition('; ')[0]}", fix or _delete(path))


def _delete(path: Path) -> str:
    return f"delete {path}, then {AGAIN}"
