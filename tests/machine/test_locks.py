"""One run at a time in a results folder, and whoever finds another there is told which process it is."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.machine import locks
from nsa.machine.flock import WITHOUT

HOLD = """
import sys
from pathlib import Path
from nsa.machine.locks import claim
lock = claim(Path(sys.argv[1]))
print("held", flush=True)
input()
"""


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another run that is at work in the results folder."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "results")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        yield other
        other.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for the other's end."""
    monkeypatch.setattr(locks, "PATIENCE_S", 0.0)
    monkeypatch.delenv("NSA_LOCKS", raising=False)


def test_a_second_run_is_refused_and_told_which_is_there(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    """A folder has one run; its process is named where the kernel knows it."""
    named = f"process {other_run.pid}" if sys.platform == "linux" else "another process"
    with pytest.raises(RecordError, match=f"{named} is running the pipeline here, expected one run at a time"):
        locks.claim(tmp_path / "results")
    other_run.kill()
    other_run.wait()
    with locks.claim(tmp_path / "results"):  # the kernel let go of it
        pass


def test_one_process_may_claim_twice(tmp_path: Path) -> None:
    """A Snakefile that is parsed twice keeps its lock; nobody holds it once it is released."""
    first, second = locks.claim(tmp_path), locks.claim(tmp_path)
    assert first is second
    first.release()
    assert locks.holder(Layout(tmp_path).lock) is None
    assert locks.named(None) == "another process"


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    """A file in the place of the results folder is one line."""
    (tmp_path / "results").touch()
    with pytest.raises(RecordError, match=r"results: a file where the folder of results would be; move \S+ away"):
        locks.claim(tmp_path / "results")


@pytest.mark.parametrize("number", WITHOUT, ids=errno.errorcode.get)
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither another run nor a folder that cannot be written, and the line says where the lock can lie."""
    flock = fcntl.flock

    def only_elsewhere(file: int, how: int) -> None:
        if os.fstat(file).st_ino == (tmp_path / "results" / ".lock").stat().st_ino:
            raise OSError(number, os.strerror(number))
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", only_elsewhere)
    expected = (
        rf"its file system has no locks \({re.escape(os.strerror(number))}\), .+; set NSA_LOCKS to a local folder"
    )
    with pytest.raises(RecordError, match=expected):
        locks.claim(tmp_path / "results")
    monkeypatch.setenv("NSA_LOCKS", str(tmp_path))
    with locks.claim(tmp_path / "results"):
        (lock,) = tmp_path.glob("nsa-results-*.lock")
        assert locks.running(tmp_path / "results") in ((lock, os.getpid()), None)


def test_one_results_folder_has_one_lock_elsewhere(tmp_path: Path) -> None:
    """However a folder is called, its lock is the same; another folder has another."""
    (tmp_path / "link").symlink_to(tmp_path / "results")
    names = [locks.elsewhere(tmp_path / name, "/locks") for name in ("results", "link", "x/../results", "other")]
    assert names[0] == names[1] == names[2] != names[3]


@pytest.mark.parametrize(("umask", "mode"), [(0o002, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_the_locks_mode_is_what_the_umask_gives(umask: int, mode: int, tmp_path: Path) -> None:
    """A folder that a group shares has a lock that the group can take."""
    before = os.umask(umask)
    try:
        with locks.claim(tmp_path / "results"):
            pass
    finally:
        os.umask(before)
    assert Layout(tmp_path / "results").lock.stat().st_mode & 0o777 == mode


def test_who_writes_in_a_folder_waits_for_who_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time; who keeps the lock too long is named, and who lets go of it is followed at once."""
    monkeypatch.setattr(locks, "WRITING_S", 0.1)
    with (
        locks.folder_lock(tmp_path / "history"),
        pytest.raises(
            RecordError, match=r"history/\.lock: .*process.* has kept it for 0\.1 s; stop it, then run again"
        ),
        locks.folder_lock(tmp_path / "history"),
    ):
        pass
    with locks.folder_lock(tmp_path / "history"):
        pass
