"""What a worker of a check does first: it starts the candidate's process, then imports what takes seconds."""

from __future__ import annotations

import importlib
from typing import ClassVar, Protocol

from nsa.bench.apart.process import CandidateProcess
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.records.facts import TimedFacts

WORK = "nsa.bench.apart.worker:replicate"  # as a Task names it


class Job(Protocol):
    """What one replicate of a check does.

    Attributes:
        check: the module that does it: check_here(job, turn), and check_there(job, turn, process) as the judge.
        server: "module:class" of what answers in the candidate's process, see CandidateProcess.
    """

    check: ClassVar[str]
    server: ClassVar[str]

    @property
    def backend(self) -> str:
        """Whose kernel or core is checked."""

    @property
    def apart(self) -> bool:
        """Whether it is loaded in a process of its own, which this one judges."""


def replicate(job: Job, turn: Turn) -> Replicated[TimedFacts]:
    """Check the job's backend: in this process, or as the judge of one that is the candidate's.

    Raises:
        BackendUnavailable: the backend cannot run here, or has not what is checked.
        NoMemory: a shape does not fit.
        KernelFailed: what is checked, or a packed SDPA variant beside it, failed while it ran.
        Killed: the candidate's process was killed from outside.
    """
    if not job.apart:
        return importlib.import_module(job.check).check_here(job, turn)
    with CandidateProcess(job.backend, job.server) as process:
        turn.helpers = frozenset({process.pid})
        return importlib.import_module(job.check).check_there(job, turn, process)  # both import torch at the same time
