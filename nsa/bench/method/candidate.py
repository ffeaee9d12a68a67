"""A selection kernel that is ready to be timed on one call, in whatever process, and what its timed calls returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nsa.bench.method.interleave import Candidate


@dataclass
class Returned:
    """What the timed calls of one kernel returned, and which replay each was; kept where `every` is set."""

    every: bool
    outputs: list[torch.Tensor] = field(default_factory=list)
    replays: list[int] = field(default_factory=list)

    def keep(self, output: torch.Tensor, replay: int) -> None:
        """Keep a copy, made in the stream."""
        if self.every:
            self.outputs.append(output.clone())
            self.replays.append(replay)


@dataclass(frozen=True)
class KernelCandidate(Candidate):
    """A kernel on one call.

    Attributes:
        replay: one untimed call on the inputs as they are: what is under test is what is timed.
        returned: what its timed calls gave.
        run: what is timed, bare.
    """

    replay: Callable[[], torch.Tensor]
    returned: Returned
    run: Callable[[], object]
