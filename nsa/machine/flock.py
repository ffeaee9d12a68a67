"""An exclusive lock of a file that the kernel lets go of however its process ends (flock), and who holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from pathlib import Path
from typing import Self

POLL_S = 0.05  # between tries to take a lock that somebody holds
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # what flock says of a lock that somebody holds
WITHOUT = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # what it says where the file system has no locks
FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class Flock:
    """The lock of a file, which stays in place: one that is removed would guard nobody who has it open.

    Args:
        path: the file; made where there is none.
        mode: of a file that is made, whatever the umask says; None: what the umask gives.
    """

    def __init__(self, path: Path, mode: int | None = None) -> None:
        self.path = path
        self._mode = mode
        self._file: int | None = None

    def acquire(self, patience_s: float | None = None) -> bool:
        """Take the lock, and say whether it is taken; it may be taken already.

        Args:
            patience_s: how long to wait for somebody who holds it; None: as long as it takes.

        Raises:
            OSError: the file cannot be opened, or its file system has no locks (`without_locks`).
        """
        end = None if patience_s is None else time.monotonic() + patience_s
        while self._file is None and not self._try():
            if end is not None and time.monotonic() >= end:
                return False
            time.sleep(POLL_S)
        return True

    def release(self) -> None:
        """Let go of the lock; one that is not held is no error."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _try(self) -> bool:
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(file)
            if error.errno in HELD:
                return False
            raise
        if os.fstat(file).st_nlink == 0:  # somebody removed it in between: another file has its name
            os.close(file)
            return False
        self._file = file
        return True

    def _open(self) -> int:
        """The file, made where there is none; that of another user needs no right to write."""
        try:
            return os.open(self.path, os.O_RDWR | FLAGS)
        except FileNotFoundError:
            pass
        except PermissionError:
            return os.open(self.path, os.O_RDONLY | FLAGS)
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | FLAGS, 0o666)
        except FileExistsError:  # another process was faster
            return self._open()
        if self._mode is not None:
            os.fchmod(file, self._mode)
        return file


def without_locks(error: OSError) -> bool:
    """Whether an error says that the file system has no locks."""
    return error.errno in WITHOUT


def holder(path: Path) -> int | None:
    """The process that holds a lock, as the kernel's own table says (Linux), so that the answer is never of yesterday.

    None: nobody, or somebody whom the kernel does not name (another host, another container).
    """
    table = Path("/proc/locks")
    if not (table.exists() and path.exists()):
        return None
    match = re.search(rf"FLOCK +ADVISORY +WRITE +([1-9]\d*) +\S+:{path.stat().st_ino} ", table.read_text())
    return int(match[1]) if match else None
