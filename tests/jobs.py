"""Forks in the place of the interpreters of a pipeline's jobs: importing torch, pandas and the like takes seconds each.

A Snakemake in a fork starts `python` for each job (Project.run). There it finds the script STUB, which has a server of
the tests' fork the job, hands over its console, and ends as the job did. A job that is no command of the project's own,
or whose Snakemake runs in an interpreter of its own (Project.snakemake, Project.start), has a real one.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import marshal
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NamedTuple

OTHERS = ("torch", "jinja2", "matplotlib.backends.backend_svg", "matplotlib.figure", "rich.console")  # beside preload's
CONSOLE = range(4)  # stdin, stdout, stderr, and that of the run (NSA_CONSOLE)
HIGH = 64  # above all of them
STUB = """#!{python} -IS
import marshal, os, signal, socket, sys

if sys.argv[1:3] != ["-m", "nsa"]:
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
umask = os.umask(0)
job = marshal.dumps((sys.argv[3:], os.getcwd(), dict(os.environ), umask))
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [len(job).to_bytes(4, "little")], range(4))
    server.sendall(job)
    status = int.from_bytes(server.recv(4), "little", signed=True)
if status < 0:
    os.kill(os.getpid(), -status)
sys.exit(status)
"""


class Job(NamedTuple):
    """What a stub asks for: a command of `python -m nsa`, and where it is to run."""

    arguments: Sequence[str]
    folder: str
    environ: dict[str, str]
    umask: int


def start(forks: ForkServerContext) -> Path:
    """Start the server, which dies with the tests; the program to run a job by.

    Args:
        forks: of a process that has imported preload.py's.
    """
    folder = Path(tempfile.mkdtemp(prefix="jobs-"))  # short: a socket's address has 108 bytes at most
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    ours, its = forks.Pipe()
    address = str(folder / "server")
    forks.Process(target=_serve, args=(address, its), daemon=True).start()
    its.close()
    ours.recv()
    stub = folder / "python"
    stub.write_text(STUB.format(python=sys.executable, address=address))
    stub.chmod(0o755)
    return stub


def run(module: str, arguments: Sequence[str], folder: Path, environ: dict[str, str]) -> None:
    """What `python -m module` does in a folder, in a process that has imported nothing of the project."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = [str(folder), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _serve(address: str, ready: Connection) -> None:
    """Fork a process for each stub that asks."""
    for name in OTHERS:
        importlib.import_module(name)
    sys.modules.pop("pynvml", None)  # torch's; tests have a stand-in for it
    gc.freeze()
    multiprocessing.current_process().daemon = False  # those may not have children
    resource_tracker._resource_tracker._fd = None  # a job has one of its own
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        ready.send(None)
        while True:
            asking, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                try:
                    _answer(asking)
                finally:
                    os._exit(0)
            asking.close()
            _bury()


def _bury() -> None:
    """Take note of children that have ended."""
    while multiprocessing.active_children() or os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG) is not None:
        continue


def _answer(asking: socket.socket) -> None:
    """Do one job in a child, and tell the stub how it ended; a job whose stub is gone is killed."""
    size, consoles, _, _ = socket.recv_fds(asking, 4, len(CONSOLE))
    with asking.makefile("rb") as said:
        job = Job(*marshal.loads(said.read(int.from_bytes(size, "little"))))
    process = multiprocessing.get_context("fork").Process(target=_work, args=(job, consoles, os.getpid()))
    process.start()
    for console in consoles:
        os.close(console)
    heard, _, _ = select.select([process.sentinel, asking], [], [])
    if process.sentinel not in heard:
        process.kill()
    process.join()
    asking.sendall((process.exitcode or 0).to_bytes(4, "little", signed=True))


def _work(job: Job, consoles: Sequence[int], parent: int) -> None:
    for number, console in zip(CONSOLE, [fcntl.fcntl(each, fcntl.F_DUPFD, HIGH) for each in consoles], strict=True):
        os.dup2(console, number)
        os.close(console)
    os.umask(job.umask)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.process.ORIGINAL_DIR = job.folder  # where processes that it spawns begin
    run("nsa", job.arguments, Path(job.folder), {**job.environ, "NSA_PARENT": str(parent)})
