"""Calls on one query after another, captured as one graph: a burst of them never waits for the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import JsonValue

from nsa.bench.method.timing import CudaTimer

Outputs = Sequence[torch.Tensor]  # what a call gives


def copied(output: torch.Tensor, into: torch.Tensor) -> JsonValue:
    """None where the output was copied, else its odd shape and dtype."""
    if output.shape != into.shape or output.dtype != into.dtype:
        return {"shape": [*output.shape], "dtype": str(output.dtype).removeprefix("torch.")}
    into.copy_(output)
    return None


class Steps:
    """A call on each of C queries, and copies of what each gave.

    Args:
        q: the query that a call reads, [B, G, h, D].
        run: a call; it gives its outputs.
        queries: [C, B, G, h, D], which may be written anew before each `go`.
        outputs: where copies go, [C, ...] each.
        timer: captures all of it; None on a CPU, where it is called anew each time.

    Attributes:
        odd: for each output None, or its shape and dtype where it is none of those that are copied.
    """

    def __init__(
        self,
        q: torch.Tensor,
        run: Callable[[], Outputs],
        queries: torch.Tensor,
        outputs: Outputs,
        timer: CudaTimer | None,
    ) -> None:
        self.odd: list[JsonValue] = [None] * len(outputs)

        def go() -> torch.Tensor:
            for query, *into in zip(queries, *outputs, strict=True):
                q.copy_(query)
                for place, (gave, there) in enumerate(zip(run(), into, strict=True)):
                    self.odd[place] = copied(gave, there) or self.odd[place]
            return q

        self.go: Callable[[], object] = go
        if timer is not None:
            self.go = timer.capture(lambda: None, go, 1).graph.replay
