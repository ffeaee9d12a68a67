"""An entry of the corpora: a kernel that must not pass, and the check that must not let it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nsa.kernels.contract import SelectAttention


@dataclass(frozen=True)
class Entry:
    """A wrong kernel.

    Attributes:
        make: a new one; it may have state.
        check: the check that must reject it, by the names of wrong.checks, or a corner case's.
        because: words that the rejection contains.
        only: whether on the CPU's small grid no other check rejects it, so that it passes where that one is off.
        on: the device that it needs, "cpu" or "cuda"; None where any will do.
    """

    make: Callable[[], SelectAttention]
    check: str
    because: str = "oracle error"
    only: bool = False
    on: str | None = None


def fixed(kernel: SelectAttention, check: str, because: str = "oracle error", *, only: bool = False) -> Entry:
    """An entry whose kernel has no state."""
    return Entry(lambda: kernel, check, because, only)
