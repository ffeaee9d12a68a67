"""What one replicate of a kernel check does."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.config import CheckSettings
from nsa.machine.host import Host


@dataclass(frozen=True)
class Job:
    """A backend on the whole grid, on a card, in one of the check's `of` processes.

    Attributes:
        seed: moves every random draw.
        packs: whether the backend may launch what packed SDPA launches.
        apart: whether it is loaded in a process of its own, which this one judges (docs/method.md).
        corners: the seed of the corner cases; None where they are left out.
    """

    backend: str
    settings: CheckSettings
    host: Host
    process: int
    of: int = 1
    seed: int = 0
    packs: bool = False
    apart: bool = False
    corners: int | None = None
