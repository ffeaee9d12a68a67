"""What one replicate of a core check does."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.config import CoreSettings
from nsa.machine.host import Host


@dataclass(frozen=True)
class Job:
    """A backend's core on the whole grid, on a card, in one of the check's processes.

    Attributes:
        seed: moves every random draw.
        corners: the seed of the corner cases; None where they are left out.
        timed_only: whether neither unseen inputs nor dense attention take part.
    """

    backend: str
    settings: CoreSettings
    host: Host
    process: int
    seed: int = 0
    corners: int | None = None
    timed_only: bool = False
