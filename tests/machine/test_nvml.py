"""NVML, a fake one: the GPUs that answer; of one the right units, and null with a reason where NVML cannot tell."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from nsa.machine import nvml
from nsa.machine.nvml import Sampler, ask_each

UUID = "GPU-4090"
NULLS = {"sm_clock_mhz": None, "temperature_c": None, "power_w": None, "throttle_bits": None}


class FakeNvml:
    """NVML with the one device `UUID`; `failing` names functions that raise the given NVML error code.

    By their numbers there are `lost` of other devices, each of which raises its error code.
    """

    NVMLError = pynvml.NVMLError
    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_CLOCK_MEM = pynvml.NVML_CLOCK_MEM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self, lost: tuple[int, ...] = (), **failing: int) -> None:
        self.lost, self.failing = lost, failing
        self.open = 0

    def _may_fail(self, name: str) -> None:
        if name in self.failing:
            raise pynvml.NVMLError(self.failing[name])

    def nvmlInit(self) -> None:
        self._may_fail("nvmlInit")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return 1 + len(self.lost)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index < len(self.lost):
            raise pynvml.NVMLError(self.lost[index])
        return "handle"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != UUID:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return "handle"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return {self.NVML_CLOCK_SM: 2520, self.NVML_CLOCK_MEM: 10501}[kind]

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:
        return {self.NVML_CLOCK_SM: 3105, self.NVML_CLOCK_MEM: 10501}[kind]

    def nvmlDeviceGetDefaultApplicationsClock(self, handle: str, kind: int) -> int:
        self._may_fail("nvmlDeviceGetDefaultApplicationsClock")
        return 2235

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        self._may_fail("nvmlDeviceGetPowerUsage")
        return 312_500  # milliwatts

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return 4

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(total=24 << 30, free=20 << 30, used=4 << 30)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in (99999, os.getpid(), 88888)]


def use(monkeypatch: pytest.MonkeyPatch, **failing: int) -> FakeNvml:
    """Put a fake NVML in the place of the real one."""
    fake = FakeNvml(**failing)
    monkeypatch.setattr(nvml, "pynvml", fake)
    return fake


def test_a_gpu_that_does_not_answer_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a GPU says instead of answering, it is named with it and the others are asked; NVML is closed."""
    errors = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_UNKNOWN)
    fake = FakeNvml(lost=errors)
    monkeypatch.setattr(nvml, "pynvml", fake)
    assert ask_each(lambda gpu: f"{gpu} answers") == (
        ("handle answers",),
        (
            "GPU 0 does not answer (GPU is lost)",
            "GPU 1 does not answer (Insufficient Permissions)",
            "GPU 2 does not answer (Unknown Error)",
        ),
    )
    assert fake.open == 0


def test_what_nvml_says_at_its_end_changes_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost GPU may let the end of NVML fail, too; those that have answered have answered."""
    fake = use(monkeypatch)
    monkeypatch.setattr(fake, "nvmlShutdown", lambda: fake._may_fail("end"))
    fake.failing["end"] = pynvml.NVML_ERROR_GPU_IS_LOST
    assert ask_each(str) == (("handle",), ())


def test_a_reading_that_is_none_is_null(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's "not available", 2³² − 1, is no clock and no temperature, and fits into no column of a record."""
    fake = use(monkeypatch)
    for name in ("nvmlDeviceGetClockInfo", "nvmlDeviceGetTemperature"):
        monkeypatch.setattr(fake, name, lambda handle, kind: 2**32 - 1)
    with Sampler(UUID) as sampler:
        found = sampler.sample()
    assert found["sm_clock_mhz"] is found["temperature_c"] is None


def test_asking_each_gpu_needs_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver that answers, asking is NVML's error."""
    use(monkeypatch, nvmlInit=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with pytest.raises(pynvml.NVMLError, match="Not Found"):
        ask_each(str)


def test_a_sample_has_the_records_columns_and_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power is in watts and the clock is the SM's; NVML is closed afterwards."""
    fake = use(monkeypatch)
    with Sampler(UUID) as sampler:
        assert sampler.sample() == {
            "sm_clock_mhz": 2520,
            "temperature_c": 61,
            "power_w": 312.5,
            "throttle_bits": 4,
        }
        assert sampler.clocks() == {
            "sm_clock_default_mhz": 2235,
            "sm_clock_max_mhz": 3105,
            "memory_clock_max_mhz": 10501,
        }
        assert sampler.reason is None
    assert fake.open == 0


def test_the_fake_has_nothing_that_nvml_lacks() -> None:
    """Every function of the fake is one of the real binding."""
    assert [name for name in vars(FakeNvml) if name.startswith("nvml") and not hasattr(pynvml, name)] == []


def test_other_processes_leave_us_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither our own process nor those that are named as ours count as others."""
    use(monkeypatch)
    with Sampler(UUID) as sampler:
        assert sampler.other_processes() == [88888, 99999]
        assert sampler.other_processes({88888}) == [99999]
        assert sampler.processes() == {os.getpid(), 88888, 99999}


def test_free_memory_is_what_nobody_has_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free bytes are NVML's, and unknown where there is no device."""
    use(monkeypatch)
    with Sampler(UUID) as sampler, Sampler(None) as nowhere:
        assert sampler.free_bytes() == 20 << 30
        assert nowhere.free_bytes() is None


def test_cpu_gives_nulls_and_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the readings are null, whatever NVML says."""
    use(monkeypatch, nvmlInit=pynvml.NVML_ERROR_UNKNOWN)
    with Sampler(None) as sampler:
        assert sampler.sample() == NULLS
        assert sampler.other_processes() == []
        assert sampler.reason == "no CUDA device"


def test_no_nvml_gives_nulls_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA works and NVML does not, as in some containers, the readings are null and the reason is kept."""
    fake = use(monkeypatch, nvmlInit=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    with Sampler(UUID) as sampler:
        assert sampler.sample() == NULLS
        assert sampler.reason == "NVML Shared Library Not Found"
    assert fake.open == 0


def test_an_unknown_device_gives_nulls_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that NVML does not know is not replaced by another."""
    fake = use(monkeypatch)
    with Sampler("GPU-other") as sampler:
        assert sampler.sample() == NULLS
        assert sampler.reason == "NVML does not know the device GPU-other: Not Found"
    assert fake.open == 0


def test_a_reading_that_is_not_supported_is_null_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that does not tell its power has its clocks."""
    use(monkeypatch, nvmlDeviceGetPowerUsage=pynvml.NVML_ERROR_NOT_SUPPORTED)
    with Sampler(UUID) as sampler:
        sample = sampler.sample()
        assert sample["power_w"] is None
        assert sample["sm_clock_mhz"] == 2520
        assert sampler.reason == "nvmlDeviceGetPowerUsage: Not Supported"
