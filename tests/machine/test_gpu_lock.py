"""The lock per device: two timed runs never overlap, and who waits is told for whom."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsa.errors import ConfigError
from nsa.machine.gpus import gpu_lock

HOLD = """
import pathlib, tempfile, time
from nsa.machine.gpus import gpu_lock
with gpu_lock({uuid!r}, print):
    print("held", flush=True)
    input()
    time.sleep(0.2)
    pathlib.Path(tempfile.gettempdir(), "left").touch()
"""


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Locks of these tests, and of the processes they start, lie apart from those of real runs."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def hold(uuid: str | None) -> subprocess.Popen[str]:
    """Another process that holds the lock until a line is written to it."""
    command = [sys.executable, "-c", HOLD.format(uuid=uuid)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    return other


@pytest.mark.parametrize(("uuid", "device"), [("GPU-4090", "GPU-4090"), (None, "cpu-timing")])
def test_a_second_run_waits_and_is_told_for_whom(uuid: str | None, device: str, temporary_folder: Path) -> None:
    """Two runs on one device follow each other, and the second says once for which process it waits."""
    with hold(uuid) as other:
        told = []

        def let_go(message: str) -> None:
            told.append(message)
            assert other.stdin is not None
            other.stdin.write("\n")
            other.stdin.flush()

        assert not (temporary_folder / "left").exists()
        with gpu_lock(uuid, let_go):
            assert (temporary_folder / "left").exists()
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


def test_other_users_can_wait_too(temporary_folder: Path) -> None:
    """The lock file may be opened by every user, whatever the umask of the first."""
    before = os.umask(0o077)
    try:
        with gpu_lock("GPU-4090", print):
            pass
    finally:
        os.umask(before)
    assert (temporary_folder / "nsa-GPU-4090.lock").stat().st_mode & 0o777 == 0o666


def test_a_temporary_folder_that_cannot_hold_it_is_named(
    temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong TMPDIR is one line that names the variable."""
    (temporary_folder / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(temporary_folder / "file"))
    expected = r"TMPDIR: .+ cannot be locked \(.+\), expected a writable temporary folder"
    with pytest.raises(ConfigError, match=expected), gpu_lock(None, print):
        pass
