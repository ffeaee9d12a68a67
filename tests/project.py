"""A copy of the project in which the tests of the pipeline run Snakemake, or ask it what it would run."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import jobs
import pytest
import yaml

# In a fork of a process that has imported Snakemake, it starts in a quarter of the time of a new interpreter.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["preload"])
SERVING = threading.Lock()
TIMEOUT_S = 300
CLAIM = """
from pathlib import Path
from nsa.machine.locks import claim
lock = claim(Path("results"))
print("held", flush=True)
input()
"""
MESSAGES = {  # what a rule says of its job, and how the tests call it
    r"environment: .*": "environment",
    r"artifact: (\w+)": r"artifact \1",
    r"decode: (\w+) at S = (\d+)": r"decode \1 \2",
    r"collect: (\w+)": r"collect \1",
    r"kernel check: (\w+)": r"check \1",
    r"core check: (\w+)": r"core \1",
    r"DRAM bytes: (\w+)": r"dram \1",
    r"report: .*": "report",
}

NVML = """
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlSystemGetDriverVersion(): return {driver!r}
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetName(gpu): return {gpu!r}
def nvmlDeviceGetUUID(gpu): return "GPU-" + {gpu!r}
def not_supported(*_): raise NVMLError("Not Supported")
def __getattr__(name):
    if name.startswith("nvml"): return not_supported
    if name.startswith("NVML_"): return 0
    raise AttributeError(name)
"""


@dataclass(frozen=True)
class Ended:
    """What a process that has ended said, and with which status it ended: negative when a signal ended it."""

    returncode: int
    stdout: str
    stderr: str


class Run:
    """A process at work in a project: `python -m module` in a fork, which dies with the tests."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        root: Path,
        environ: dict[str, str],
        python: Path | None = None,
        umask: int | None = None,
    ) -> None:
        self._said: dict[Connection, bytes] = {}
        consoles = []
        for _ in ("stdout", "stderr"):
            ours, its = FORKS.Pipe(duplex=False)
            self._said[ours] = b""
            consoles.append(its)
        self._open = set(self._said)
        _serve()
        work = (module, arguments, root, environ, python, umask, *consoles)
        self.process = FORKS.Process(target=_in_fork, args=work, daemon=True)
        self.process.start()
        for its in consoles:
            its.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self.process.pid is not None
        return self.process.pid

    def says(self, beginning: str) -> str:
        """Wait for a line on stderr that begins so, and return it."""
        while True:
            lines = self._text()[1].splitlines(keepends=True)
            for line in lines:
                if line.startswith(beginning) and line.endswith("\n"):
                    return line.rstrip("\n")
            assert self._open, f"it ended without a word of {beginning!r}: {lines}"
            self._listen(TIMEOUT_S)

    def end(self, timeout_s: float = TIMEOUT_S) -> Ended:
        """Wait for its end, and for that of the last process that has its console."""
        deadline = time.monotonic() + timeout_s
        while self._open:
            self._listen(deadline - time.monotonic())
        self.process.join()
        return Ended(self.process.exitcode or 0, *self._text())

    def _listen(self, timeout_s: float) -> None:
        heard = wait(self._open, max(0.0, timeout_s))
        assert heard, f"it said nothing for so long, and did not end: {self._text()}"
        for console in heard:
            said = os.read(console.fileno(), 1 << 16)
            self._said[console] += said
            if not said:
                self._open.remove(console)
                console.close()

    def _text(self) -> list[str]:
        return [said.decode() for said in self._said.values()]


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own, and how to run Snakemake there."""

    root: Path

    def copy(self, root: Path) -> Project:
        """The same project in another folder, dates and results included."""
        subprocess.run(["cp", "-a", str(self.root), str(root)], check=True)  # a third of copytree's time
        return Project(root)

    def surroundings(self, environ: dict[str, str] | None = None) -> dict[str, str]:
        """A user's environment variables: none of ours, and a PATH without our `python`, so that rules must find it."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("NSA_", "SNAKEMAKE", "PYTHON"))}
        own = {"PATH": os.defpath, "NSA_LOCKS": str(self.root / "tmp")}  # its locks are not those of real runs
        return {**clean, **own, **(environ or {})}

    def snakemake(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        python: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake as a user does, perhaps by way of another program."""
        return subprocess.run(
            [*prefix, sys.executable, *python, "-m", "snakemake", *arguments],
            cwd=self.root,
            env=self.surroundings(environ),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def start(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        forks: bool = False,
        umask: int | None = None,
    ) -> Run:
        """Start Snakemake in a fork, and do not wait for it.

        Args:
            arguments: of Snakemake.
            environ: variables that it has beside a user's own.
            forks: whether its jobs are forks, too (jobs.py): in an eighth of the time, and not to be killed.
            umask: where it is another than the tests'.
        """
        python = _python() if forks else None
        return Run("snakemake", arguments, self.root, self.surroundings(environ), python, umask)

    def run(self, *arguments: str, environ: dict[str, str] | None = None) -> Ended:
        """Run Snakemake and its jobs in forks."""
        return self.start(*arguments, environ=environ, forks="--dry-run" not in arguments).end()

    def nsa(self, *arguments: str, environ: dict[str, str] | None = None) -> Ended:
        """Run a command of the project's own in a fork."""
        return Run("nsa", arguments, self.root, self.surroundings(environ)).end()

    def holding(self, program: str) -> subprocess.Popen[str]:
        """Start another process, which says that it holds a lock and keeps it until a line is written to it."""
        other = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=self.root,
            env=self.surroundings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        return other

    def planned(self, *arguments: str, **environ: str) -> set[str]:
        """The jobs that Snakemake would run, named as in MESSAGES; empty when there is nothing to be done."""
        ended = self.run("--dry-run", *arguments, environ=environ)
        output = ended.stdout + ended.stderr
        assert ended.returncode == 0, output
        jobs = {_job(message) for message in re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)}
        counts = dict(re.findall(r"^(\w+) +(\d+)$", output, re.MULTILINE))
        assert int(counts.get("total", 0)) == len(jobs) + int(counts.get("all", 0)), output  # every job, each once
        assert jobs or "Nothing to be done" in output, output
        return jobs

    def configure(self, **changes: Any) -> None:
        """Change config.yaml; a section's keys are merged into it."""
        path = self.root / "config.yaml"
        config = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(config))

    def append(self, source: str, text: str = "\n# edited\n") -> None:
        """Edit a source by adding to its end."""
        with (self.root / source).open("a") as file:
            file.write(text)


def _job(message: str) -> str:
    for pattern, name in MESSAGES.items():
        if match := re.fullmatch(pattern, message):
            return match.expand(name)
    return message


@cache
def _python() -> Path:
    """The program by which jobs are run in forks; its server is started where somebody first needs it."""
    _serve()
    return jobs.start(FORKS)


def _serve() -> None:
    """Start the process that forks, which finds preload.py; nothing where it runs already."""
    with SERVING, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        forkserver.ensure_running()


def _in_fork(
    module: str,
    arguments: Sequence[str],
    root: Path,
    environ: dict[str, str],
    python: Path | None,
    umask: int | None,
    stdout: Connection,
    stderr: Connection,
) -> None:
    """What `python -m module` does in a folder, with its output, and that of its children, in two pipes."""
    for number, console in enumerate((stdout, stderr), start=1):
        os.dup2(console.fileno(), number)
        console.close()
    if python is not None:
        sys.executable = str(python)
    if umask is not None:
        os.umask(umask)
    jobs.run(module, arguments, root, environ)


def machine(folder: Path, gpu: str = "H200", driver: str = "580.1", torch: str = "9.9.0") -> dict[str, str]:
    """The environment of a stand-in machine: what NVML and the package metadata say there."""
    distribution = folder / f"torch-{torch}.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n")
    (folder / "pynvml.py").write_text(NVML.format(gpu=gpu, driver=driver))
    return {"PYTHONPATH": str(folder)}
