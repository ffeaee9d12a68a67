"""A process of the tuning stage: Triton is imported where what it raises is the backend's failure."""

from __future__ import annotations

from nsa.bench.runner import Replicated
from nsa.bench.tune.job import Job, TuneFacts
from nsa.bench.workers import Turn
from nsa.kernels.failures import BackendBroken, kernel_at_work


def replicate(job: Job, turn: Turn) -> Replicated[TuneFacts]:
    """Tune one process's share of the sizes, see nsa.bench.tune.replicate.

    Raises:
        NoMemory, KernelFailed: as there.
        BackendBroken: Triton, or the kernel, cannot be imported.
    """
    with kernel_at_work("triton", BackendBroken):
        from nsa.bench.tune import replicate as tuning
    return tuning.replicate(job, turn)
