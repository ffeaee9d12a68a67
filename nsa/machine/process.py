"""A job belongs to the run that started it: it dies with it, and can speak at its console.

The Snakefile tells every job of the run through two variables, which no setting depends on.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType

PARENT = "NSA_PARENT"  # pid of the Snakemake that started the job
CONSOLE = "NSA_CONSOLE"  # file descriptor of that Snakemake's console; the job's own output goes to its log
PR_SET_PDEATHSIG = 1  # linux/prctl.h
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # no kernel ends its process by these


def die_with_run(environ: Mapping[str, str] = os.environ) -> None:
    """Die with the Snakemake that started this command; one that was typed by hand belongs to no run."""
    if PARENT in environ:
        die_with_parent(int(environ[PARENT]))


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies: a killed Snakemake leaves nothing on the GPU.

    Linux only; elsewhere it does nothing, and a killed parent's child runs to its end.

    Args:
        parent: its pid; a parent that died before this call ends the process here.

    Raises:
        OSError: the kernel refused.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # what the kernel would have done


INTERRUPTED = threading.Event()  # by a user or a script: jobs that then end have not failed


def interrupt_jobs_too() -> None:
    """An interrupt of this process alone interrupts its jobs as well, as Ctrl-C at a terminal does.

    Without this a run that a script or a scheduler interrupts waits for the jobs at work. Linux only, as above.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        INTERRUPTED.set()
        for pid in children():
            with suppress(ProcessLookupError):  # it has ended
                os.kill(pid, signal.SIGINT)
        signal.default_int_handler(number, frame)

    if threading.current_thread() is threading.main_thread():  # no other may install one
        signal.signal(signal.SIGINT, handle)


def cancel_timers() -> None:
    """Let a run end with its last job: Snakemake limits the rate of jobs by timers, and would wait a second for one."""
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.cancel()


def children() -> list[int]:
    """The pids of this process's children, as Linux lists them."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            _, parent, *_ = stat.read_text().rpartition(")")[2].split()  # after the name, which may hold anything
            if int(parent) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def how_it_ended(exitcode: int) -> str:
    """What a process's exit code, as multiprocessing gives it, says: a signal's name or an exit status."""
    return signal.Signals(-exitcode).name if exitcode < 0 else f"exit status {exitcode}"


def killed_from_outside(exitcode: int) -> bool:
    """Whether somebody else ended the process: a user, a scheduler, or the system for want of memory."""
    return -exitcode in FROM_OUTSIDE


def announce(line: str, environ: Mapping[str, str] = os.environ) -> None:
    """Say a line at the run's console, where this process is a job of one."""
    if CONSOLE in environ:
        with suppress(OSError):  # a console that was closed is no reason to stop
            os.write(int(environ[CONSOLE]), f"{line}\n".encode())
