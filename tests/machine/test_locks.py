"""One run at a time in a results folder, and whoever finds another there is told which process it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.machine import locks

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
    first.release(force=True)
    assert locks.holder(Layout(tmp_path).lock) is None
    assert locks.named(None) == "another process"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file in the place of the results folder is one line."""
    (tmp_path / "results").touch()
    with pytest.raises(RecordError, match=r"results: cannot be written \(.+\); expected a writable folder"):
        locks.claim(tmp_path / "results")
