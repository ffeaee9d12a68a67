"""A copy of the project in which the tests of the pipeline run Snakemake, or ask it what it would run."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

# A dry run in a fork of a process that has imported Snakemake takes a third of the time of a new interpreter.
PLANNER = multiprocessing.get_context("forkserver")
PLANNER.set_forkserver_preload(["snakemake.cli", "snakemake.workflow", "grimp", "pydantic"])
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
"""


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own, and how to run Snakemake there."""

    root: Path

    def copy(self, root: Path) -> Project:
        """The same project in another folder, dates and results included."""
        return Project(Path(shutil.copytree(self.root, root)))

    def surroundings(self, environ: dict[str, str] | None = None) -> dict[str, str]:
        """A user's environment variables: none of ours, and a PATH without our `python`, so that rules must find it."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("NSA_", "SNAKEMAKE", "PYTHON"))}
        own = {"PATH": os.defpath, "TMPDIR": str(self.root / "tmp")}  # its locks are not those of real runs
        return {**clean, **own, **(environ or {})}

    def start(self, *arguments: str, prefix: tuple[str, ...] = (), **environ: str) -> subprocess.Popen[str]:
        """Start Snakemake as a user does, perhaps by way of another program, and do not wait for it."""
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", "snakemake", *arguments],
            cwd=self.root,
            env=self.surroundings(environ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

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
            timeout=300,
            check=False,
        )

    def nsa(self, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the project's own."""
        return subprocess.run(
            [sys.executable, "-m", "nsa", *arguments],
            cwd=self.root,
            env=self.surroundings(environ),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

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
        told = self.root / ".planned"
        child = PLANNER.Process(target=_plan, args=(self.root, arguments, self.surroundings(environ), told))
        child.start()
        child.join()
        output = told.read_text()
        told.unlink()
        assert child.exitcode == 0, output
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


def _plan(root: Path, arguments: tuple[str, ...], environ: dict[str, str], told: Path) -> None:
    """In a fork: what `python -m snakemake --dry-run` does in a folder, with its output in a file."""
    output = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environ)
    sys.path[:0] = [str(root), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    from snakemake.cli import main

    main(["--dry-run", *arguments])


def machine(folder: Path, gpu: str = "H200", driver: str = "580.1", torch: str = "9.9.0") -> dict[str, str]:
    """The environment of a stand-in machine: what NVML and the package metadata say there."""
    distribution = folder / f"torch-{torch}.dist-info"
    distribution.mkdir(parents=True)
    (distribution / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n")
    (folder / "pynvml.py").write_text(NVML.format(gpu=gpu, driver=driver))
    return {"PYTHONPATH": str(folder)}
