"""An attack: an entry point that changes the process it is called in, and the check that must see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nsa.config import Flags
from nsa.kernels.contract import Backend
from nsa.machine.host import Machine

Load = Callable[[str, Machine, Flags], Backend]


@dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
        load: the entry point.
        check: the check that rejects it, as of an Entry.
        because: words of the rejection.
        on: the device that it needs; None where any will do.
    """

    load: Load
    check: str
    because: str = ""
    on: str | None = None

    @property
    def entry(self) -> str:
        """The entry point as a line: "module:function"."""
        return f"{self.load.__module__}:{self.load.__name__}"
