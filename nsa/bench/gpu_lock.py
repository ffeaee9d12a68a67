"""One timed run per device at a time, across processes and users: a file lock named by the GPU's uuid."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from nsa import locks
from nsa.errors import ConfigError
from nsa.process import announce


@contextmanager
def gpu_lock(uuid: str | None, notify: Callable[[str], None]) -> Iterator[None]:
    """Hold the device's lock, waiting for it as long as another run has it; a run that dies lets go of it.

    Args:
        uuid: of the GPU; None takes the lock for timing on the CPU.
        notify: called once with one line when there is somebody to wait for; the run's console is told as well.

    Raises:
        ConfigError: the temporary folder cannot hold a lock file.
    """
    device = uuid or "cpu-timing"
    path = Path(tempfile.gettempdir()) / f"nsa-{device}.lock"
    lock = FileLock(path, mode=0o666)  # another user must be able to wait for it too
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            line = f"waiting for {device}: {locks.named(locks.holder(path))} is timing on it (lock file {path})"
            notify(line)
            announce(line)
            lock.acquire()
    except OSError as error:
        raise ConfigError(
            f"TMPDIR: {path} cannot be locked ({error.strerror}), expected a writable temporary folder"
        ) from error
    try:
        yield
    finally:
        lock.release()
