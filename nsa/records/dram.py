"""What a DRAM count says, typed as every record's facts are."""

from __future__ import annotations

from nsa.records.facts import Device
from nsa.records.merge import Model
from nsa.records.shapes import CheckShape


class KernelBytes(Model):
    """DRAM bytes of one kernel."""

    name: str
    bytes_read: int
    bytes_written: int


class CountedShape(Model):
    """One call of a backend's kernel, counted by the hardware, beside what it must move."""

    shape: CheckShape
    bytes_expected: int
    bytes_read: int
    bytes_written: int
    ratio: float  # (read + written) / expected
    kernels: tuple[KernelBytes, ...]


class DramFacts(Model):
    """A DRAM count that ran."""

    device: Device
    shapes: tuple[CountedShape, ...]
