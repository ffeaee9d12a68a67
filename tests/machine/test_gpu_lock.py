"""The lock per device: two timed runs never overlap, and who waits is told for whom."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nsa.errors import ConfigError
from nsa.machine import locks
from nsa.machine.flock import WITHOUT
from nsa.machine.gpus import gpu_lock

HOLD = """
import pathlib, time
from nsa.machine import locks
from nsa.machine.gpus import gpu_lock
locks.SHARED = pathlib.Path({shared!r})
with gpu_lock({uuid!r}, print):
    print("held", flush=True)
    input()
    time.sleep(0.2)
    (locks.SHARED / "left").touch()
"""


@pytest.fixture(autouse=True)
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of these tests, and of the processes they start, lie apart from those of real runs."""
    monkeypatch.delenv("NSA_LOCKS", raising=False)
    monkeypatch.setattr(locks, "SHARED", tmp_path)
    return tmp_path


def hold(uuid: str | None, **environ: str) -> subprocess.Popen[str]:
    """Another process that holds the lock until a line is written to it."""
    command = [sys.executable, "-c", HOLD.format(uuid=uuid, shared=str(locks.SHARED))]
    other = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


@pytest.mark.parametrize(("uuid", "device"), [("GPU-4090", "GPU-4090"), (None, "cpu-timing")])
def test_a_second_run_waits_and_is_told_for_whom(uuid: str | None, device: str, shared_folder: Path) -> None:
    """Two runs on one device follow each other, and the second says once for which process it waits."""
    with hold(uuid) as other:
        told = []

        def let_go(message: str) -> None:
            told.append(message)
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()

        assert not (shared_folder / "left").exists()
        with gpu_lock(uuid, let_go):
            assert (shared_folder / "left").exists()
    holder = f"process {other.pid}" if sys.platform == "linux" else "another process"
    assert len(told) == 1
    assert told[0].startswith(f"waiting for {device}: {holder} is timing on it")


def test_a_killed_run_lets_go() -> None:
    """The lock of a killed run is free at once."""
    with hold("GPU-4090") as other:
        with gpu_lock("GPU-4090", lambda _: other.kill()):
            pass
        assert other.wait() < 0


def test_devices_do_not_wait_for_each_other() -> None:
    """Each GPU, and the CPU, has a queue of its own, and a failed run frees its device."""
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt), gpu_lock("GPU-a", told.append), gpu_lock("GPU-b", told.append):
        raise KeyboardInterrupt
    with gpu_lock("GPU-a", told.append), gpu_lock(None, told.append):
        pass
    assert told == []


def test_other_users_can_wait_too(shared_folder: Path) -> None:
    """The lock file may be opened by every user, whatever the umask of the first."""
    before = os.umask(0o077)
    try:
        with gpu_lock("GPU-4090", print):
            pass
    finally:
        os.umask(before)
    assert (shared_folder / "nsa-GPU-4090.lock").stat().st_mode & 0o777 == 0o666


@pytest.mark.parametrize("variable", ["TMPDIR", "TMP", "HOME"])
def test_runs_meet_whatever_their_temporary_folder_is(variable: str, shared_folder: Path) -> None:
    """Where the lock lies follows from nothing that two runs may have of their own."""
    mine = shared_folder / "mine"
    mine.mkdir()
    with hold("GPU-4090", **{variable: str(mine)}) as other:
        told: list[str] = []

        def end(line: str) -> None:
            told.append(line)
            other.kill()

        with gpu_lock("GPU-4090", end):
            assert len(told) == 1


def test_a_folder_for_all_locks_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NSA_LOCKS is where the lock lies, when it is set."""
    monkeypatch.setenv("NSA_LOCKS", str(tmp_path / "locks"))
    (tmp_path / "locks").mkdir()
    with gpu_lock("GPU-4090", print):
        assert locks.holder(tmp_path / "locks" / "nsa-GPU-4090.lock") in (os.getpid(), None)
    assert not (tmp_path / "nsa-GPU-4090.lock").exists()


def test_another_users_file_may_be_locked(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may only read the lock file waits for it, and takes it."""
    opened, opens = list[int](), os.open

    def refusing(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise PermissionError(13, "Permission denied")
        opened.append(flags)
        return opens(path, flags, mode)

    (shared_folder / "nsa-GPU-4090.lock").touch()
    monkeypatch.setattr(os, "open", refusing)
    with gpu_lock("GPU-4090", print):
        assert opened


def test_a_folder_that_cannot_hold_it_is_named(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong folder is one line that names the variable."""
    (shared_folder / "file").touch()
    monkeypatch.setenv("NSA_LOCKS", str(shared_folder / "file"))
    expected = (
        r"file/nsa-.+ cannot be locked \(Not a directory\); set NSA_LOCKS to a local folder, the same for every run"
    )
    with pytest.raises(ConfigError, match=expected), gpu_lock(None, print):
        pass


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is the true one, and the line says where the locks can lie instead."""

    def flock(file: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    expected = rf"its file system has no locks: {re.escape(os.strerror(number))}\); set NSA_LOCKS to a local folder"
    with pytest.raises(ConfigError, match=expected), gpu_lock(None, print):
        pass
