"""A block is timed at the SM clock at which its process began (docs/timing.md).

Heavy arithmetic just before lowers the clock: on one H100 a graph of 18 small launches took 126.5 µs at 1980 MHz, and
155 to 160 at 1500 to 1680 MHz for seconds after products in bfloat16.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from nsa.machine.nvml import Sampler

BACK = 0.99  # of the clock at the start: a step of 15 MHz below it is no other state
RISING_S = 1.0  # a clock that has not risen for so long is where it stays: a power cap, clocks that are locked
BLOCK_S = 2.0  # waited for one block, at most
TOTAL_S = 10.0  # waited in one process, at most
POLL_S = 0.02


class Clock:
    """Waits for the SM clock before a block; where NVML does not tell it, nothing is waited for.

    Attributes:
        start_mhz: the clock at the first block, that of the device's own limit or one that has ceased to rise; None
            before the first block, and where it is not known.
        waited_s: for all blocks together.

    Args:
        sampler: of the GPU.
        nudge: a little work, so that a clock is that of a device at work; an idle one has others.
    """

    def __init__(self, sampler: Sampler, nudge: Callable[[], object]) -> None:
        self._sampler, self._nudge = sampler, nudge
        self.start_mhz: int | None = None
        self.waited_s = 0.0

    def wait(self) -> None:
        """Return once the clock is back, or once the time for this block, or for the process, is over."""
        if self.start_mhz is None:
            self.start_mhz = self._until(self._sampler.sm_clock_limit(), RISING_S)
        else:
            self._until(self.start_mhz, BLOCK_S)

    def _until(self, aim: int | None, patience_s: float) -> int | None:
        """Wait for a clock of `aim`, as long as it has risen in the last `patience_s`; the clock at the end."""
        began = risen = time.monotonic()
        end, highest, waited = began + min(BLOCK_S, TOTAL_S - self.waited_s), 0, 0.0
        while True:
            self._nudge()
            clock, now = self._sampler.sm_clock(), time.monotonic()
            if clock is None or aim is None:
                return clock
            if clock > highest:
                highest, risen = clock, now
            if clock >= BACK * aim or now >= end or now - risen >= patience_s:
                self.waited_s += waited
                return clock
            time.sleep(POLL_S)
            waited = time.monotonic() - began
