"""Under which circumstances one process timed: what every timed stage records of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from nsa.bench.method.clocks import Clock
from nsa.bench.method.interleave import replicate_facts
from nsa.bench.method.timing import FLUSH, NO_FLUSH
from nsa.records.facts import Device, Replicate
from nsa.records.words import Row


class Circumstances(TypedDict):
    """Fields of nsa.records.facts.TimedFacts."""

    device: Device
    flush: str
    bandwidth_bytes_per_s: tuple[float, ...]
    read_bandwidth_bytes_per_s: tuple[float, ...]
    replicates: tuple[Replicate, ...]
    other_processes: tuple[int, ...]


def circumstances(
    device: Device,
    process: int,
    duration_s: float,
    rows: Iterable[Row],
    clock: Clock | None,
    rates: Sequence[tuple[float, float]],
    others: Iterable[int],
) -> Circumstances:
    """What one process says of how it timed.

    Args:
        device: what it timed on.
        process: its number among the replicates.
        duration_s: without what it waited for its turns.
        rows: of its table, with the GPU's state beside each time.
        clock: that its blocks waited for; None on a CPU.
        rates: bytes per second of a copy and of reading alone, as often as they were measured; none on a CPU.
        others: pids of further processes that were seen on the GPU.
    """
    return {
        "device": device,
        "flush": FLUSH if device.kind == "cuda" else NO_FLUSH,
        "bandwidth_bytes_per_s": tuple(copied for copied, _ in rates),
        "read_bandwidth_bytes_per_s": tuple(read for _, read in rates),
        "replicates": (replicate_facts(process, duration_s, rows, clock),),
        "other_processes": tuple(sorted(others)),
    }
