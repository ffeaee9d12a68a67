"""Timing one callable: CUDA events around a graph replay, or the wall clock of a CPU (docs/timing.md)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from nsa.bench.method.settle import SecondContext
from nsa.errors import Disturbed

FLUSH_BYTES = 256 << 20  # several times the L2 of any GPU: written, then as many read, before each cold repetition
FLUSH = "write 256 MiB, read 256 MiB"  # how records name it; times of two methods are not comparable
NO_FLUSH = "none"  # on a CPU
BANDWIDTH_BYTES = 1 << 30  # of the buffers by which the memory's rate is measured
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
        self._clean = torch.zeros(FLUSH_BYTES // 8, dtype=torch.int64, device=device)
        self._sum = torch.zeros((), dtype=torch.int64, device=device)
        self._trivial = torch.zeros(1, device=device)  # here: it must outlive the graph that writes it

    def settle(self) -> None:
        """Bring the device into the state in which everything is timed; before anything is timed in a turn."""
        torch.cuda.synchronize(self.device)
        self._second.switch()

    def empty_cache(self) -> None:
        """Empty the L2 and leave clean lines in it.

        A buffer that is only written leaves dirty lines, and the kernel that is timed next pays for writing them back:
        1 to 3 µs at 4 to 256 rows on one H100, 5 to 12 % at 1,024, and not the same for every kernel.
        """
        self._flush.zero_()
        torch.sum(self._clean, dim=0, out=self._sum)

    def stream(self) -> torch.Tensor:
        """Copy a whole buffer: fixed work for the memory, part of the control.

        Where buffers lie in memory moves it: half as large, eight processes on one H100 differed by 1.3 %, so by 0.4 %.
        """
        return self._flush.copy_(self._clean.view(torch.int8))

    def nudge(self) -> None:
        """A little work for the memory, waited for: the clocks are then those of a device at work."""
        self.empty_cache()
        torch.cuda.synchronize(self.device)

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

    def time(
        self,
        restore: Callable[[], None],
        replay: Callable[[], object],
        cold: bool,
        repetitions: int,
        after: Callable[[], None] = lambda: None,
        touch: Callable[[], None] = lambda: None,
    ) -> list[int]:
        """Nanoseconds of each replay; cold empties the L2 before each, warm replays once untimed just before.

        `restore` comes before the flush, `after` behind the second event: neither is part of the time. Nor is `touch`,
        which comes behind the flush and reads what is in the L2 wherever the timed work runs as part of more. A kernel
        that spins covers each replay: while it runs, the host enqueues the events and the replay. Where the host was
        held up for longer, its delay would be part of the time; such a replay is repeated under a longer cover.

        Raises:
            Disturbed: the host is held up every time.
        """
        events = []
        for _ in range(repetitions):
            events.append(self._covered(restore, replay, cold, touch))
            after()
        torch.cuda.synchronize(self.device)
        return [round(start.elapsed_time(stop) * 1e6) for start, stop in events]

    def _covered(
        self, restore: Callable[[], None], replay: Callable[[], object], cold: bool, touch: Callable[[], None]
    ) -> tuple[torch.cuda.Event, torch.cuda.Event]:
        """The events around a replay that was wholly enqueued before the device came to it."""
        for attempt in range(COVER_ATTEMPTS):
            restore()
            if cold:
                self.empty_cache()
                touch()
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


def bandwidths(device: torch.device, repetitions: int = 20) -> tuple[float, float]:
    """Bytes per second of a large copy, bytes read plus bytes written, and of reading alone: what bounds a kernel."""
    source = torch.ones(BANDWIDTH_BYTES // 8, dtype=torch.int64, device=device)
    target, total = torch.empty_like(source), torch.zeros((), dtype=torch.int64, device=device)
    copied = _rate(device, 2 * BANDWIDTH_BYTES, repetitions, partial(target.copy_, source))
    read = _rate(device, BANDWIDTH_BYTES, repetitions, partial(torch.sum, source, dim=0, out=total))
    del source, target
    torch.cuda.empty_cache()  # other processes of the run may need the two gigabytes
    return copied, read


def _rate(device: torch.device, moved_bytes: int, repetitions: int, move: Callable[[], object]) -> float:
    """Bytes per second of a movement, repeated without a pause."""
    move()
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(repetitions):
        move()
    stop.record()
    torch.cuda.synchronize(device)
    return moved_bytes * repetitions / (start.elapsed_time(stop) * 1e-3)
