"""A timing process dies with the one that asked for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nsa.machine import process

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a child of its parent's death, others do not")
CHILD = """
import os, time
from nsa.machine.process import die_with_parent
die_with_parent(os.getppid())
print('ready', flush=True)
time.sleep(60)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-c', {child!r}])
print(child.pid, flush=True)
child.wait()
"""


@LINUX
def test_a_killed_parent_leaves_no_child() -> None:
    """A killed Snakemake leaves no benchmark on the GPU."""
    command = [sys.executable, "-c", PARENT.format(child=CHILD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc", parent.stdout.readline().strip())
        assert parent.stdout.readline() == "ready\n"
        assert child.exists()
        parent.kill()
        deadline = time.monotonic() + 10
        while alive(child) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not alive(child)


def alive(process: Path) -> bool:
    """Whether a /proc entry is a running process; a zombie that nobody has waited for is dead."""
    try:
        return " Z " not in (process / "stat").read_text().rpartition(")")[2][:3]
    except (FileNotFoundError, ProcessLookupError):
        return False


@LINUX
@pytest.mark.parametrize("command", ["artifact", "collect", "decode", "report"])
def test_no_job_begins_after_its_run_was_killed(command: str) -> None:
    """A job that is just being started ends before it does anything, and one whose run lives goes on."""
    line = [sys.executable, "-m", "nsa", command, "--help"]
    orphan = subprocess.run(line, env={**os.environ, process.PARENT: "1"}, capture_output=True, check=False)
    assert (orphan.returncode, orphan.stdout) == (-signal.SIGKILL, b"")
    child = subprocess.run(line, env={**os.environ, process.PARENT: str(os.getpid())}, capture_output=True, check=False)
    assert child.returncode == 0


def test_a_job_speaks_at_the_console_of_its_run(tmp_path: Path) -> None:
    """A line reaches the run's console, where there is one that is open."""
    with (tmp_path / "console").open("w") as console:
        process.announce("waiting", {process.CONSOLE: str(console.fileno())})
        process.announce("typed by hand", {})
    process.announce("nobody listens", {process.CONSOLE: str(os.sysconf("SC_OPEN_MAX") - 1)})
    assert (tmp_path / "console").read_text() == "waiting\n"
