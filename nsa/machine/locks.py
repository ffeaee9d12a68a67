"""Locks that a living process holds: the kernel lets go of them however their process ends, so none is ever stale."""

from __future__ import annotations

import re
from pathlib import Path

from filelock import FileLock, Timeout

from nsa.errors import RecordError
from nsa.layout import Layout

PATIENCE_S = 2.0  # `snakemake -n` holds it for a moment only


def claim(folder: Path) -> FileLock:
    """Make this process the only run in a results folder, for as long as it keeps the lock that is returned.

    Raises:
        RecordError: another run is at work there, or the folder cannot be written.
    """
    path = Layout(folder).lock
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, is_singleton=True)  # a Snakefile that is parsed twice keeps the lock of the first time
        lock.acquire(timeout=PATIENCE_S)
    except Timeout as error:
        raise RecordError(
            f"{folder}: {named(holder(path))} is running the pipeline here, expected one run at a time; let it end or "
            "stop it, then run again"
        ) from error
    except OSError as error:
        raise RecordError(f"{folder}: cannot be written ({error.strerror}); expected a writable folder") from error
    return lock


def holder(path: Path) -> int | None:
    """The process that holds a lock, as the kernel's own table says (Linux), so that the answer is never of yesterday.

    None: nobody, or somebody whom the kernel does not name (another host, another container).
    """
    table = Path("/proc/locks")
    if not (table.exists() and path.exists()):
        return None
    match = re.search(rf"FLOCK +ADVISORY +WRITE +([1-9]\d*) +\S+:{path.stat().st_ino} ", table.read_text())
    return int(match[1]) if match else None


def named(pid: int | None) -> str:
    """How messages call whoever holds a lock."""
    return "another process" if pid is None else f"process {pid}"
