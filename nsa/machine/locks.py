"""Locks that a living process holds: of a folder, and of a device. None is ever stale (nsa.machine.flock)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nsa.errors import ConfigError, RecordError
from nsa.layout import Layout
from nsa.machine.flock import Flock, holder, without_locks
from nsa.machine.process import announce

__all__ = ["claim", "device_lock", "folder_lock", "holder", "named", "obstacle", "running"]

PATIENCE_S = 2.0  # `snakemake -n` holds it for a moment only
WRITING_S = 30.0  # to read and write a small file takes less
FOLDER = "NSA_LOCKS"  # a folder for locks, in the place of SHARED and of a results folder that can have none
SHARED = Path("/tmp")  # of all users, and whatever a run's TMPDIR is: who times on one device must meet
ELSEWHERE = f"set {FOLDER} to a local folder, the same for every run on this machine"
EVERYBODY = 0o666  # another user must be able to wait, too

_claimed: dict[Path, Flock] = {}


def claim(folder: Path, environ: Mapping[str, str] = os.environ) -> Flock:
    """Make this process the only run in a results folder, for as long as it keeps the lock that is returned.

    A Snakefile that is parsed twice keeps the lock of the first time. Where the folder's file system has no locks the
    lock lies in the folder that NSA_LOCKS names.

    Raises:
        RecordError: another run is at work there, the folder cannot be written, or there is no place for a lock.
    """
    path = Layout(folder).lock
    if (found := obstacle(folder)) is not None:
        raise RecordError(f"{folder}: {'; '.join(found)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _claim(folder, path, None)
    except OSError as error:
        if not without_locks(error):
            raise RecordError(f"{folder}: cannot be written ({error.strerror}); expected a writable folder") from error
        if not environ.get(FOLDER):
            raise RecordError(
                f"{folder}: its file system has no locks ({error.strerror}), by which two runs there would see each "
                f"other; {ELSEWHERE}, and the lock lies there"
            ) from error
    path = elsewhere(folder, environ[FOLDER])
    try:
        return _claim(folder, path, EVERYBODY)
    except OSError as error:
        raise RecordError(f"{FOLDER}: {path} cannot be locked ({error.strerror}); {ELSEWHERE}") from error


def obstacle(folder: Path) -> tuple[str, str] | None:
    """What stands where a results folder would be, and what to do about it; None where nothing does."""
    if folder.is_symlink() and not folder.exists():
        return f"a link to {folder.readlink()}, which is not there", "delete it, or make that folder"
    if folder.exists() and not folder.is_dir():
        return "a file where the folder of results would be", f"move {folder} away"
    return None


def _claim(folder: Path, path: Path, mode: int | None) -> Flock:
    lock = _claimed.setdefault(path.resolve(), Flock(path, mode))
    if not lock.acquire(PATIENCE_S):
        raise RecordError(
            f"{folder}: {named(holder(path))} is running the pipeline here, expected one run at a time; let it end or "
            "stop it, then run again"
        )
    return lock


def elsewhere(folder: Path, locks: str) -> Path:
    """Where the lock of a results folder lies that can have none itself, however the folder is called."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return Path(locks) / f"nsa-results-{name}.lock"


def running(folder: Path, environ: Mapping[str, str] = os.environ) -> tuple[Path, int] | None:
    """The lock of the run that is at work in a results folder, and its process; None where none is known."""
    paths = [Layout(folder).lock, *([elsewhere(folder, environ[FOLDER])] if environ.get(FOLDER) else [])]
    return next(((path, pid) for path in paths if (pid := holder(path)) is not None), None)


@contextmanager
def folder_lock(folder: Path, environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Hold a folder's lock while a file in it is read and written anew, waiting for whoever does so.

    Where the folder's file system has no locks it lies in the folder that NSA_LOCKS names, as that of `claim`.

    Raises:
        RecordError: the folder cannot be written, somebody keeps the lock, or there is no place for one.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _waited(path, None)
    except OSError as error:
        if not (without_locks(error) and environ.get(FOLDER)):
            fix = ELSEWHERE if without_locks(error) else "expected a writable folder"
            raise RecordError(f"{folder}: cannot be locked ({error.strerror}); {fix}") from error
        lock = _waited(elsewhere(folder, environ[FOLDER]), EVERYBODY)
    with lock:
        yield


def _waited(path: Path, mode: int | None) -> Flock:
    lock = Flock(path, mode)
    if not lock.acquire(WRITING_S):
        raise RecordError(f"{path}: {named(holder(path))} has kept it for {WRITING_S:g} s; stop it, then run again")
    return lock


@contextmanager
def device_lock(device: str, notify: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Hold a device's lock, waiting for it as long as another run has it; a run that dies lets go of it.

    Args:
        device: the uuid of a GPU, or another name.
        notify: called once with one line when there is somebody to wait for; the run's console is told as well.
        environ: its NSA_LOCKS is where the lock lies; else it lies in SHARED, for all users.

    Raises:
        ConfigError: the folder cannot hold a lock.
    """
    path = Path(environ.get(FOLDER) or SHARED) / f"nsa-{device}.lock"
    lock = Flock(path, EVERYBODY)
    try:
        if not lock.acquire(0):
            line = f"waiting for {device}: {named(holder(path))} is timing on it (lock file {path})"
            notify(line)
            announce(line)
            lock.acquire()
    except OSError as error:
        why = f"its file system has no locks: {error.strerror}" if without_locks(error) else error.strerror
        raise ConfigError(f"{path}: cannot be locked ({why}); {ELSEWHERE}") from error
    try:
        yield
    finally:
        lock.release()


def named(pid: int | None) -> str:
    """How messages call whoever holds a lock."""
    return "another process" if pid is None else f"process {pid}"
