"""An interrupt ends a run at once, also one that reaches Snakemake alone."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress

import psutil
import pytest
from project import Project


def measuring(pid: int) -> bool:
    """Whether a run has got as far as its cell; before, it has other children that soon end."""
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            if "decode" in child.cmdline():
                return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_an_interrupt_of_the_leader_alone_ends_its_jobs(project: Project) -> None:
    """A script that interrupts its run does not wait for what is being measured."""
    project.configure(decode={"iters": 100_000})  # minutes
    run = project.start("results/decode/sdpa/S128.parquet")
    while not measuring(run.pid):
        time.sleep(0.05)
    time.sleep(1)
    os.kill(run.pid, signal.SIGINT)
    ended = run.end(timeout_s=30)
    assert ended.returncode != 0 and "Traceback" not in ended.stderr
    assert "interrupted: decode: sdpa at S = 128" in ended.stderr and "FAILED" not in ended.stderr
