"""The skeleton of the timed stages: outcomes, merged facts, and how many processes prepare at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from nsa.bench import runner
from nsa.bench.runner import Replicated, Result, Task, processes_that_fit, run
from nsa.bench.workers import Turn
from nsa.config import Flags
from nsa.errors import BackendUnavailable, KernelFailed, KernelHung, Killed, NoMemory
from nsa.machine.host import Host, Machine
from nsa.machine.nvml import our_processes
from nsa.records.facts import Device
from nsa.records.merge import Merge, Model
from nsa.records.outcome import Failed, Ok, OutOfMemory, Unavailable

ON_CPU = Host(Device(kind="cpu", name="a CPU", uuid=None), Machine(None), Flags())
GIB = 1 << 30


class Seen(Model):
    """Facts with one field of each rule."""

    reads: Annotated[int, Merge.SAME]
    others: Annotated[tuple[int, ...], Merge.UNITED]
    bandwidth: Annotated[tuple[float, ...], Merge.EACH]
    finite: Annotated[bool, Merge.ALL]
    fault: Annotated[str | None, Merge.FIRST]


@dataclass(frozen=True)
class Job:
    """What a process says, or raises."""

    process: int
    says: Seen | Exception


def work(job: Job, turn: Turn) -> Replicated[Seen]:
    if isinstance(job.says, Exception):
        raise job.says
    with turn:
        return Replicated([{"process": job.process}], job.says)


def seen(**changes: object) -> Seen:
    return Seen.model_validate(
        {"reads": 105, "others": (), "bandwidth": (1.0,), "finite": True, "fault": None, **changes}
    )


def ran(*said: Seen | Exception, backends: tuple[str, ...] = ("sdpa",)) -> Result[Seen]:
    """A run whose processes say this."""
    task = Task(
        name="a task",
        backends=backends,
        work=f"{__name__}:work",
        job=lambda card, process: Job(process, said[process]),
        processes=len(said),
        timeout_s=60,
        memory_bytes=0,
        less_memory="take less",
        log=Path("results/logs/a.log"),
    )
    return run(task, ON_CPU, print)


def test_facts_of_every_process_are_in_the_record() -> None:
    """A process seen in replicate 2, a fault there and its bandwidth count as much as those of the first."""
    result = ran(seen(), seen(others=(7,), bandwidth=(2.0,), finite=False, fault="wrong blocks"), seen(others=(7, 8)))
    assert isinstance(result.outcome, Ok)
    assert result.outcome.facts == Seen(
        reads=105, others=(7, 8), bandwidth=(1.0, 2.0, 1.0), finite=False, fault="wrong blocks"
    )
    assert result.rows == [{"process": 0}, {"process": 1}, {"process": 2}]


def test_replicates_that_disagree_fail_the_cell() -> None:
    """Reads of 105 and then 205 tokens are not recorded as 205."""
    outcome = ran(seen(), seen(reads=205)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.reason == "the replicates disagree on reads: 105 in process 1, 205 in process 2"


@pytest.mark.parametrize(
    ("error", "kind", "reason", "fix"),
    [
        (KernelFailed("it crashed"), Failed, "it crashed", "see results/logs/a.log, and mend the kernel (on a GPU"),
        (KernelHung("it hung"), Failed, "it hung", "see results/logs/a.log, and raise timeout_s"),
        (NoMemory("CUDA out of memory."), OutOfMemory, "CUDA out of memory.", "take less"),
        (BackendUnavailable("sdpa", "damaged", "delete it"), Unavailable, "damaged", "delete it"),
    ],
)
def test_what_a_backend_raises_is_its_outcome(error: Exception, kind: type, reason: str, fix: str) -> None:
    """One backend's fault, in any process, ends its own cell and nothing else."""
    outcome = ran(seen(), error).outcome
    assert isinstance(outcome, kind) and not isinstance(outcome, Ok)
    assert outcome.reason == reason and str(outcome.fix).startswith(fix)


@pytest.mark.parametrize("error", [Killed("killed"), KeyError("a bug"), RuntimeError("shape mismatch in the oracle")])
def test_what_is_no_backends_fault_is_no_outcome(error: Exception) -> None:
    """A fault of the harness, or a kill from outside, is recorded for no backend."""
    with pytest.raises(type(error)):
        ran(error)


def test_a_backend_that_cannot_run_here_starts_nothing() -> None:
    """Nothing takes the place of what was asked for."""
    result = ran(seen(), backends=("cuda",))
    assert isinstance(result.outcome, Unavailable) and result.rows == ()


@pytest.mark.parametrize(
    ("memory", "free", "expected"),
    [(0, 80 * GIB, 26), (8 * GIB, 80 * GIB, 4), (60 * GIB, 80 * GIB, 1), (0, None, 1), (100 * GIB, 0, 1)],
)
def test_processes_prepare_in_waves_that_fit_the_memory(memory: int, free: int | None, expected: int) -> None:
    """Together they take at most half of the free memory; one alone may always try."""
    assert processes_that_fit(memory, free) == expected


def test_a_wave_ends_before_the_next_one_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits the memory prepares together, and every process has its number and a place in the record."""
    waves: list[list[int]] = []

    def together(work_line: str, jobs: Sequence[Job], *_: object) -> list[Replicated[Seen]]:
        waves.append([job.process for job in jobs])
        return [work(job, Turn()) for job in jobs]

    monkeypatch.setattr(runner, "run_together", together)
    monkeypatch.setattr(runner.os, "cpu_count", lambda: 2)
    result = ran(*[seen(bandwidth=(float(process),)) for process in range(5)])
    assert waves == [[0, 1], [2, 3], [4]]
    assert isinstance(result.outcome, Ok) and result.outcome.facts.bandwidth == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert [row["process"] for row in result.rows] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("now", "ours"),
    [
        ({1, 40, 41}, {40, 41}),  # NVML names our processes as we do
        ({1, 9040, 9041}, {9040, 9041}),  # by the host's numbers, from within a container
        ({1, 40, 41, 77}, {40, 41}),  # with a stranger that came meanwhile
        ({1, 9040, 9041, 9077}, {9040, 9041}),  # with a stranger, by the host's numbers: one is none of ours
        ({1}, set()),  # NVML shows none of ours
    ],
)
def test_our_own_processes_are_no_strangers(now: set[int], ours: set[int]) -> None:
    """Siblings on the GPU are told from a stranger, in a container too."""
    assert our_processes(frozenset({1}), frozenset(now), frozenset({40, 41})) == ours
