"""A timing process dies with the one that asked for it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

CHILD = "from nsa.process import die_with_parent; die_with_parent(); print('ready', flush=True); import time; time.sleep(60)"
PARENT = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', {child!r}]); print(child.pid, flush=True); child.wait()"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a child of its parent's death, others do not")
def test_a_killed_parent_leaves_no_child() -> None:
    """Without it, a killed Snakemake would leave its benchmark on the GPU, beside the next run's."""
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
