"""NVML: its one start, the GPUs that answer, and what one of them was doing while it was timed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

import pynvml

from nsa.settings import MAX_INT32

P = ParamSpec("P")
T = TypeVar("T")
Handle = object  # NVML's own, which nobody looks into


@contextmanager
def started() -> Iterator[None]:
    """NVML, for as long as the `with` block lasts.

    Raises:
        pynvml.NVMLError: there is no driver that answers.
    """
    pynvml.nvmlInit()
    try:
        yield
    finally:
        with suppress(pynvml.NVMLError):  # what a lost GPU says at the end changes no answer
            pynvml.nvmlShutdown()


def cuda_version() -> tuple[int, int] | None:
    """The newest CUDA that the driver supports; None without a driver that answers."""
    try:
        with started():
            version: int = pynvml.nvmlSystemGetCudaDriverVersion()
    except pynvml.NVMLError:
        return None
    return version // 1000, version % 1000 // 10


def ask_each(question: Callable[[Handle], T]) -> tuple[tuple[T, ...], tuple[str, ...]]:
    """What every GPU answers, in NVML's order, that of the PCI bus; and those that do not, each with why.

    A GPU that is lost, or that this user may not open, hides no other: CUDA leaves it out as well.

    Raises:
        pynvml.NVMLError: there is no driver that answers.
    """
    answers: list[T] = []
    lost: list[str] = []
    with started():
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                answers.append(question(pynvml.nvmlDeviceGetHandleByIndex(index)))
            except pynvml.NVMLError as error:
                lost.append(f"GPU {index} does not answer ({error})")
    return tuple(answers), tuple(lost)


def instances(gpu: Handle) -> tuple[Handle, ...]:
    """The MIG instances of a GPU; none where it is whole, or where NVML cannot tell."""
    try:
        on, _ = pynvml.nvmlDeviceGetMigMode(gpu)
        places = range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)) if on else ()
    except (pynvml.NVMLError, AttributeError):  # the card, the driver or the package knows no MIG
        return ()
    found: list[Handle] = []
    for place in places:
        with suppress(pynvml.NVMLError):  # nothing is there
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place))
    return tuple(found)


class Sampler:
    """Reads one GPU through NVML, within a `with` block.

    Without a CUDA device, or where NVML cannot tell, the readings are null and `reason` says why.

    Args:
        uuid: of the device that torch uses (NVML and torch may number devices differently), with its "GPU-" prefix;
            None on CPU.
    """

    def __init__(self, uuid: str | None) -> None:
        self.uuid = uuid
        self.reason: str | None = "no CUDA device" if uuid is None else None
        self._handle: Handle | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if self.uuid is None:
            return self
        try:
            self._open.enter_context(started())
        except pynvml.NVMLError as error:
            self.reason = str(error)
            return self
        try:
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(self.uuid)
        except pynvml.NVMLError as error:
            self.reason = f"NVML does not know the device {self.uuid}: {error}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle = None
        self._open.close()

    def sample(self) -> dict[str, int | float | None]:
        """The columns that each repetition records; throttle_bits are NVML's clock event reasons."""
        power_mw = self._read(pynvml.nvmlDeviceGetPowerUsage)
        return {
            "sm_clock_mhz": self.sm_clock(),
            "temperature_c": _known(self._read(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU)),
            "power_w": None if power_mw is None else power_mw / 1000,
            "throttle_bits": self._read(pynvml.nvmlDeviceGetCurrentClocksEventReasons),
        }

    def clocks(self) -> dict[str, int | None]:
        """The default and the highest clocks of the device."""
        return {
            "sm_clock_default_mhz": self._read(pynvml.nvmlDeviceGetDefaultApplicationsClock, pynvml.NVML_CLOCK_SM),
            "sm_clock_max_mhz": self.sm_clock_limit(),
            "memory_clock_max_mhz": self._read(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_MEM),
        }

    def sm_clock(self) -> int | None:
        """The SM clock now, MHz."""
        return _known(self._read(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM))

    def sm_clock_limit(self) -> int | None:
        """The highest SM clock of the device, MHz."""
        return _known(self._read(pynvml.nvmlDeviceGetMaxClockInfo, pynvml.NVML_CLOCK_SM))

    def processes(self) -> frozenset[int]:
        """Process ids that compute on the device, as NVML names them: in a container these may be the host's."""
        running = self._read(pynvml.nvmlDeviceGetComputeRunningProcesses) or []
        return frozenset(process.pid for process in running)

    def other_processes(self, ours: Iterable[int] = ()) -> list[int]:
        """Process ids that compute on the device and are neither this process nor one of `ours`."""
        return sorted(self.processes() - {os.getpid(), *ours})

    def free_bytes(self) -> int | None:
        """Memory of the device that nobody has taken."""
        memory = self._read(pynvml.nvmlDeviceGetMemoryInfo)
        return None if memory is None else int(memory.free)

    def _read(
        self, function: Callable[Concatenate[Handle, P], T], *arguments: P.args, **keywords: P.kwargs
    ) -> T | None:
        """One reading; null, with the reason kept, where this device or driver does not give it."""
        if self._handle is None:
            return None
        try:
            return function(self._handle, *arguments, **keywords)
        except pynvml.NVMLError as error:
            self.reason = f"{function.__name__}: {error}"
            return None


def _known(reading: int | None) -> int | None:
    """A reading; null for NVML's "not available", all 32 bits of an unsigned number, which fits no column."""
    return None if reading is None or reading > MAX_INT32 else reading


def our_processes(before: frozenset[int], now: frozenset[int], workers: frozenset[int]) -> frozenset[int]:
    """Which of the processes on a GPU are our own workers.

    In a container NVML may name processes by the host's numbers, which are not ours to know. What has come since
    before the workers started, and is not more than they are, is theirs; otherwise those whose numbers match. Where
    none does, as many are ours as there are workers: which ones cannot be told, and how many strangers there are can.
    """
    new = now - before
    if len(new) <= len(workers):
        return new
    return new & workers or frozenset(sorted(new)[: len(workers)])
