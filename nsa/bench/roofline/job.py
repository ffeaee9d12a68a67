"""What one replicate of the roofline times."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.config import RooflineSettings
from nsa.machine.host import Host


@dataclass(frozen=True)
class Job:
    """Backends, packed SDPA among them, on every shape, on a card, in one of the run's processes."""

    backends: tuple[str, ...]
    settings: RooflineSettings
    host: Host
    process: int
