"""What one replicate of a decode cell measures."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.config import DecodeSettings
from nsa.machine.host import Host
from nsa.records.decode import Geometry


@dataclass(frozen=True)
class Job:
    """A backend at S tokens, on a card, in one of the cell's processes."""

    backend: str
    S: int
    settings: DecodeSettings
    host: Host
    process: int

    @property
    def geometry(self) -> Geometry:
        """The layer and the step that it measures."""
        settings = self.settings
        dtype = settings.dtype.of(self.host.device.kind)
        return Geometry(S=self.S, batch=settings.batch, dtype=dtype, seed=settings.seed, **settings.model.model_dump())
