"""What a worker of the core check does first: it starts the candidate's process, then imports what takes seconds."""

from __future__ import annotations

from nsa.bench.apart.process import CandidateProcess
from nsa.bench.core.job import Job
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.records.facts import CoreFacts

SERVER = "nsa.bench.core.candidate:CoreCandidate"


def replicate(job: Job, turn: Turn) -> Replicated[CoreFacts]:
    """Check the job's core: in this process, or as the judge of one that is the candidate's.

    Raises:
        BackendUnavailable: the backend cannot run here, or has no core.
        NoMemory: a shape does not fit.
        KernelFailed: the core failed while it ran.
        Killed: the candidate's process was killed from outside.
    """
    if not job.apart:
        from nsa.bench.core.replicate import check_here

        return check_here(job, turn)
    with CandidateProcess(job.backend, SERVER) as process:
        turn.helpers = frozenset({process.pid})
        from nsa.bench.core.replicate import check_there  # torch: both processes import it at the same time

        return check_there(job, turn, process)
