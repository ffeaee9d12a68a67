"""What one replicate of a core check does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nsa.config import CoreSettings
from nsa.machine.host import Host

SECRET = 26  # bits of the seeds of one run


@dataclass(frozen=True)
class Job:
    """A backend's core on the whole grid, on a card, in one of the check's processes.

    Attributes:
        seed: moves every random draw.
        apart: whether the core is loaded in a process of its own, which this one judges (docs/core_check.md).
        corners: a seed that nobody knows before the run, of all inputs; None where the corner cases are left out.
        timed_only: whether neither unseen inputs nor dense attention take part.
    """

    check: ClassVar[str] = "nsa.bench.core.replicate"  # see nsa.bench.apart.worker.Job
    server: ClassVar[str] = "nsa.bench.core.candidate:CoreCandidate"

    backend: str
    settings: CoreSettings
    host: Host
    process: int
    seed: int = 0
    apart: bool = False
    corners: int | None = None
    timed_only: bool = False

    @property
    def secret(self) -> int:
        """What is added to every seed: a core that knows how inputs are drawn knows none of them before."""
        return (self.corners or 0) << SECRET
