"""What one replicate of a kernel check does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nsa.config import CheckSettings
from nsa.machine.host import Host


@dataclass(frozen=True)
class Job:
    """A backend on the whole grid, on a card, in one of the check's `of` processes.

    Attributes:
        seed: moves every random draw.
        packs: whether the backend may launch what packed SDPA launches.
        apart: whether it is loaded in a process of its own, which this one judges (docs/kernel_check.md).
        corners: a seed that nobody knows before the run, of the corner cases and of what changes from replay to replay;
            None where the corner cases are left out.
    """

    check: ClassVar[str] = "nsa.bench.check.replicate"  # see nsa.bench.apart.worker.Job
    server: ClassVar[str] = "nsa.bench.check.candidate:Candidate"

    backend: str
    settings: CheckSettings
    host: Host
    process: int
    of: int = 1
    seed: int = 0
    packs: bool = False
    apart: bool = False
    corners: int | None = None

    @property
    def secret(self) -> int:
        """What seeds of replays begin with: a kernel that knows how inputs are drawn knows none of them before."""
        return (self.corners or 0) << 32
