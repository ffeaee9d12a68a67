"""Kernels that are right until they are timed: each does in its captured form what no right output before would show.

A kernel knows that it was captured by being called again and again on the same addresses, as a graph's replays are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from wrong.corpus import Wrong, right

from nsa.bench.method.inputs import Call
from nsa.bench.method.kernels import WARMUP

Replay = Callable[[Call, Call, int], torch.Tensor]  # the inputs, as they were at the capture, and how often replayed


class Captured:
    """Right on its first calls on some addresses; the later ones, its replays, do something else."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.calls: dict[tuple[int, ...], int] = {}
        self.captured: dict[tuple[int, ...], Call] = {}
        self.alive: list[Call] = []  # an address always means the same tensor

    def __call__(self, *arguments) -> torch.Tensor:
        call = Call(*arguments)
        key = tuple(tensor.data_ptr() for tensor in call[:5])
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] == 1:
            self.alive.append(call)
            self.captured[key] = Call(*(tensor.clone() for tensor in call[:5]), call.block_size)
        if self.calls[key] <= WARMUP:
            return right(*call)
        return self.replay(call, self.captured[key], self.calls[key] - WARMUP)


def bakes_in(*names: str) -> Replay:
    """Some inputs are those of the capture for ever."""
    return lambda call, captured, count: right(*call._replace(**{name: getattr(captured, name) for name in names}))


def takes_every_row_for_full(call: Call, captured: Call, count: int) -> torch.Tensor:
    """What was full at the capture is full for ever: no padding, no partial sequence."""
    if (captured.block_indices < 0).any():
        return right(*call)
    whole = call.seq_lens.clamp(min=int(captured.seq_lens.max()))
    return right(*call._replace(block_indices=call.block_indices.clamp(min=0), seq_lens=whole))


def noise(call: Call, captured: Call, count: int) -> torch.Tensor:
    output = right(*call)
    return torch.where(output == 0, 0, output + 1e-3 * torch.randn_like(output))


def sets_every_length_to_one(call: Call, captured: Call, count: int) -> torch.Tensor:
    call.seq_lens.clamp_(max=1)
    return right(*call)


def cuts_rows_short(call: Call, captured: Call, count: int) -> torch.Tensor:
    """Writes -1 into the middle of rows, so that its rivals, too, have less to do."""
    output = right(*call)
    call.block_indices[..., call.block_indices.shape[-1] // 2] = -1
    return output


class Memo:
    """Keeps what it returned for each query, and returns it when the query comes again."""

    def __init__(self) -> None:
        self.kept: dict[bytes, torch.Tensor] = {}

    def __call__(self, *arguments) -> torch.Tensor:
        call = Call(*arguments)
        key = call.q.flatten()[:64].numpy().tobytes() + bytes(str(call.block_indices.shape), "ascii")
        if key not in self.kept:
            self.kept[key] = right(*arguments)
        return self.kept[key].clone()


def works_in_some_replays(every: int) -> Replay:
    """A replay in so many does the work; the others return what that one left."""
    left: list[torch.Tensor] = []

    def replay(call: Call, captured: Call, count: int) -> torch.Tensor:
        if count % every == 0 or not left or left[0].shape != (*call.q.shape[:3], call.v.shape[3]):
            left[:] = [right(*call)]
        return left[0].clone()

    return replay


CHEATS: dict[str, Callable[[], Wrong]] = {
    "bakes the block indices into its graph": lambda: Wrong(Captured(bakes_in("block_indices")), "oracle error"),
    "bakes the lengths into its graph": lambda: Wrong(Captured(bakes_in("seq_lens")), "not finite"),
    "packs K and V before its capture": lambda: Wrong(Captured(bakes_in("k", "v")), "oracle error"),
    "takes every row for full in its graph": lambda: Wrong(Captured(takes_every_row_for_full), "not finite"),
    "adds noise in its graph only": lambda: Wrong(Captured(noise), "nondeterministic"),
    "sets every length to 1 in its graph": lambda: Wrong(
        Captured(sets_every_length_to_one), "nondeterministic or stale"
    ),
    "cuts rows short for its rivals": lambda: Wrong(Captured(cuts_rows_short), "the input block_indices was changed"),
    "keeps a memo of queries": lambda: Wrong(Memo(), "reads 0 tokens"),
    "works in one replay of four": lambda: Wrong(Captured(works_in_some_replays(4)), "oracle error"),
    "works in the last replay only": lambda: Wrong(Captured(works_in_some_replays(12)), "oracle error"),
}
