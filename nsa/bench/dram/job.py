"""What one profiled process runs."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.machine.host import Host
from nsa.records.shapes import CheckShape

MARKER = "spin_kernel"  # of torch.cuda._sleep: it stands after the kernels of each shape


@dataclass(frozen=True)
class Job:
    """One call of a backend's kernel on each of some shapes."""

    backend: str
    shapes: tuple[CheckShape, ...]
    host: Host
