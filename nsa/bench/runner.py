"""The skeleton of every timed stage: require the backends, take a GPU, run the replicates, say what became of it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nsa.bench.workers import run_together
from nsa.errors import BackendUnavailable, KernelFailed, NoMemory
from nsa.kernels import registry
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.machine.nvml import Sampler, our_processes
from nsa.machine.process import announce
from nsa.records.facts import Device
from nsa.records.merge import Disagreement, Model, merge
from nsa.records.outcome import Failed, NotRun, Ok, OutOfMemory, Unavailable
from nsa.records.words import Row

F = TypeVar("F", bound=Model)
J = TypeVar("J")

CONTEXT_BYTES = 3 << 29  # of a process on a GPU, beside what it measures: two contexts, libraries, the flush's buffer
MEMORY_SHARE = 0.5  # of the free memory that the processes of a wave may take together
Say = Callable[[str], None]


@dataclass(frozen=True)
class Replicated(Generic[F]):
    """What one process found: rows of the stage's table, and its facts."""

    rows: list[Row]
    facts: F


@dataclass(frozen=True)
class Task(Generic[J]):
    """What a stage asks for.

    Attributes:
        name: how messages call it, "decode cuda S=1024".
        backends: those that must be able to run here; nothing runs in their place.
        work: "module:function", called as function(job, turn) -> Replicated in a process, see nsa.bench.workers.
        job: makes the argument from the card that was taken and the process's number.
        processes: how many replicates.
        timeout_s: how long one may take.
        memory_bytes: what one process needs on the device.
        less_memory: what the user can do when that is too much.
        log: where what the processes say is kept.
    """

    name: str
    backends: Sequence[str]
    work: str
    job: Callable[[Host, int], J]
    processes: int
    timeout_s: float
    memory_bytes: int
    less_memory: str
    log: Path


@dataclass(frozen=True)
class Result(Generic[F]):
    """What became of a task: the device that was taken, the outcome, and the rows of all replicates."""

    device: Device
    outcome: Ok[F] | NotRun
    rows: Sequence[Row] = ()


def run(task: Task[J], host: Host, say: Say) -> Result[F]:
    """Run a task; what a backend cannot do, or does wrong, is its outcome.

    Args:
        task: what to do.
        host: where.
        say: receives lines of progress.

    Raises:
        Killed: a process was killed from outside; there is then nothing to record.
        Exception: a fault of the harness, which is no backend's.
    """
    device = host.device
    outcome: Unavailable | Failed | OutOfMemory
    try:
        for backend in task.backends:
            registry.require(backend, host.machine, host.flags)
        with one_gpu(host, say) as card:
            device = card.device
            found: list[Replicated[F]] = replicates(task, card, say)
        facts = merge([part.facts for part in found])
        return Result(device, Ok(facts=facts), [row for part in found for row in part.rows])
    except BackendUnavailable as error:
        outcome = Unavailable(reason=error.reason, fix=error.fix)
    except NoMemory as error:
        outcome = OutOfMemory(reason=str(error), fix=task.less_memory)
    except KernelFailed as error:
        outcome = Failed(reason=str(error), fix=f"see {task.log}, and {error.fix}")
    except Disagreement as error:
        outcome = Failed(reason=str(error), fix=f"see {task.log}, and run it again; a kernel that differs is broken")
    say(f"{task.name}: {outcome.status}: {outcome.reason}")
    if not isinstance(outcome, Unavailable):
        announce(f"{task.name}: {outcome.status}: {outcome.reason}; {outcome.fix}")
    return Result(device, outcome)


def without_gpu(name: str, host: Host, say: Say) -> Result[F]:
    """The result of a stage that only a GPU can run, on a machine without one."""
    reason = "there is no CUDA device to time on"
    say(f"{name}: unavailable: {reason}")
    return Result(host.device, Unavailable(reason=reason, fix=host.machine.fix))


def replicates(task: Task[J], card: Host, say: Say) -> list[Replicated[F]]:
    """Run the processes in waves that fit the memory, each alone while it measures."""
    on_cpu = card.device.kind == "cpu"
    found: list[Replicated[F]] = []
    with Sampler(card.device.uuid) as sampler:
        wave = (os.cpu_count() or 1) if on_cpu else processes_that_fit(task.memory_bytes, sampler.free_bytes())
        before = sampler.processes()
        for first in range(0, task.processes, wave):
            jobs = [task.job(card, process) for process in range(first, min(first + wave, task.processes))]
            found += run_together(
                task.work,
                jobs,
                task.timeout_s,
                on_cpu,
                lambda pids: our_processes(before, sampler.processes(), pids) | {os.getpid()},  # this one only waits
                lambda: importlib.import_module("nsa.records.parquet"),  # Arrow, to write what they will find
            )
            say(f"{task.name}: {len(found)} of {task.processes} processes, {len(found[-1].rows)} rows each")
    return found


def processes_that_fit(memory_bytes: int, free_bytes: int | None) -> int:
    """How many processes of a task are there at once; one where the free memory is not known."""
    if free_bytes is None:
        return 1
    return max(1, int(MEMORY_SHARE * free_bytes) // (memory_bytes + CONTEXT_BYTES))
