"""Timing one callable: CUDA events around a graph replay, or the wall clock of a CPU (docs/method.md#timing)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from nsa.bench.method.settle import SecondContext
from nsa.errors import Disturbed

FLUSH_BYTES = 256 << 20  # several times the L2 of any GPU: written before each cold repetition
FLUSH = "write 256 MiB"  # how records name it; times of two methods are not comparable
NO_FLUSH = "none"  # on a CPU
COVER_CYCLES = 200_000  # about 0.1 ms of GPU time during which the host enqueues what is timed
COVER_ATTEMPTS = 12  # each covered twice as long as the one before: the last about 0.2 s


@dataclass
class Captured:
    """A captured CUDA graph and the tensor that its replays write."""

    graph: torch.cuda.CUDAGraph
    output: torch.Tensor


class CudaTimer:
    """Times graph replays with events; the device is kept busy before, so that no launch latency is measured."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._second = SecondContext(device)
        self._flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device=device)
        self._trivial = torch.zeros(1, device=device)  # here: it must outlive the graph that writes it

    def settle(self) -> None:
        """Bring the device into the state in which everything is timed; before anything is timed in a turn."""
        torch.cuda.synchronize(self.device)
        self._second.switch()

    def capture(self, prepare: Callable[[], None], run: Callable[[], torch.Tensor], warmup: int) -> Captured:
        """Warm up on a side stream, then capture `run`; `prepare` restores the state and is not captured.

        Each graph has its own memory: in a shared pool, another graph's replay may overwrite this one's output.
        """
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(max(1, warmup)):
                prepare()
                run()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        prepare()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = run()
        return Captured(graph, output)

    def capture_empty(self, warmup: int) -> Captured:
        """A graph of one kernel that does nothing: what the method itself reads, its floor."""
        return self.capture(lambda: None, lambda: self._trivial.add_(0), warmup)

    def time(self, restore: Callable[[], None], replay: Callable[[], None], cold: bool, repetitions: int) -> list[int]:
        """Nanoseconds of each replay; cold flushes the L2 before each, warm replays once untimed just before.

        A kernel that spins covers each: while it runs, the host enqueues the events and the replay. Where the host was
        held up for longer, its delay would be part of the time; such a replay is repeated under a longer cover.

        Raises:
            Disturbed: the host is held up every time.
        """
        events = [self._covered(restore, replay, cold) for _ in range(repetitions)]
        torch.cuda.synchronize(self.device)
        return [round(start.elapsed_time(stop) * 1e6) for start, stop in events]

    def _covered(
        self, restore: Callable[[], None], replay: Callable[[], None], cold: bool
    ) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        """The events around a replay that was wholly enqueued before the device came to it."""
        for attempt in range(COVER_ATTEMPTS):
            restore()
            if cold:
                self._flush.zero_()
            else:
                replay()
                restore()
            torch.cuda._sleep(COVER_CYCLES << attempt)
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            replay()
            stop.record()
            if not start.query():  # the device has not come to it yet
                return start, stop
        raise Disturbed(
            f"the host was held up in each of {COVER_ATTEMPTS} attempts to time a replay; leave the machine alone, "
            "and run again"
        )


def wall(run: Callable[[], object], device: torch.device, repetitions: int, restore: Callable[[], None]) -> list[int]:
    """Nanoseconds of wall time of each call, the device's work included: what a host-bound user sees."""
    values = []
    for _ in range(repetitions):
        restore()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        start = time.perf_counter_ns()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        values.append(time.perf_counter_ns() - start)
    return values


def copy_bandwidth(device: torch.device, repetitions: int = 20) -> float:
    """Bytes per second of a large device-to-device copy, bytes read plus bytes written: the memory floor's rate."""
    source = torch.empty(1 << 30, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repetitions):
        target.copy_(source)
    stop.record()
    torch.cuda.synchronize(device)
    rate = 2 * source.numel() * repetitions / (start.elapsed_time(stop) * 1e-3)
    del source, target
    torch.cuda.empty_cache()  # other processes of the run may need the two gigabytes
    return rate
