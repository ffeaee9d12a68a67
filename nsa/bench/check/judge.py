"""What a worker of the kernel check does first: it starts the candidate's process, then imports what takes seconds."""

from __future__ import annotations

from nsa.bench.apart.process import CandidateProcess
from nsa.bench.check.job import Job
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.records.facts import CheckFacts

SERVER = "nsa.bench.check.candidate:Candidate"


def replicate(job: Job, turn: Turn) -> Replicated[CheckFacts]:
    """Check the job's backend: in this process, or as the judge of one that is the candidate's.

    Raises:
        BackendUnavailable: the backend cannot run here.
        NoMemory: a shape does not fit.
        KernelFailed: the backend, or a packed variant, failed while it ran.
        Killed: the candidate's process was killed from outside.
    """
    if not job.apart:
        from nsa.bench.check.replicate import check_here

        return check_here(job, turn)
    with CandidateProcess(job.backend, SERVER) as process:
        turn.helpers = frozenset({process.pid})
        from nsa.bench.check.replicate import check_there  # torch: both processes import it at the same time

        return check_there(job, turn, process)
