"""What every timed stage records of one process."""

from __future__ import annotations

from nsa.bench.method.circumstances import circumstances
from nsa.records.facts import Device

GPU = Device(kind="cuda", name="NVIDIA H100", uuid="GPU-0")
CPU = Device(kind="cpu", name="a CPU", uuid=None)


def test_every_rate_and_every_other_process_is_kept() -> None:
    """Rates stand in the order in which they were measured, copies and reads apart; pids are sorted."""
    said = circumstances(GPU, 3, 1.5, [{"sm_clock_mhz": 1980}], None, [(4e12, 3e12), (5e12, 2e12)], {9, 7})
    assert said["bandwidth_bytes_per_s"] == (4e12, 5e12) and said["read_bandwidth_bytes_per_s"] == (3e12, 2e12)
    assert said["other_processes"] == (7, 9) and said["flush"] == "write 256 MiB, read 256 MiB"
    (replicate,) = said["replicates"]
    assert (replicate.process, replicate.duration_s, replicate.sm_clock_max_mhz) == (3, 1.5, 1980)


def test_a_cpu_has_neither_flush_nor_rates() -> None:
    """Nothing is written before its repetitions, and no bandwidth is measured."""
    said = circumstances(CPU, 0, 1.0, [], None, [], ())
    assert (said["device"], said["flush"], said["bandwidth_bytes_per_s"]) == (CPU, "none", ())
