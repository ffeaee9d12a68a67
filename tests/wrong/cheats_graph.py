"""Kernels that are right until they are timed: each does in its captured form what no right output before would show.

A kernel knows that it is captured by being called again on the same addresses: after so many warm-up calls the next one
is what a graph records, on CUDA, and every further one is a replay, on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from wrong.entry import Entry
from wrong.kernels import right

from nsa.bench.method.inputs import Call
from nsa.bench.method.kernels import WARMUP

# The inputs, as they were at the capture, and how many replays there were, on the device.
Replay = Callable[[Call, Call, torch.Tensor], torch.Tensor]
PATIENCE = 10  # replays that a kernel that knows the check does as it should: no fewer are made before the timing


class Captured:
    """Right on its first calls on some addresses; the later ones, its replays, do something else."""

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.calls: dict[tuple[int, ...], int] = {}
        self.captured: dict[tuple[int, ...], Call] = {}
        self.count: dict[tuple[int, ...], torch.Tensor] = {}
        self.alive: list[Call] = []  # an address always means the same tensor

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        if call.k.numel() > 1 << 22:
            return right(*call)
        key = tuple(tensor.data_ptr() for tensor in call[:5])
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] == 1:
            self.alive.append(call)
            self.captured[key] = Call(*(tensor.clone() for tensor in call[:5]), call.block_size)
            self.count[key] = torch.zeros((), dtype=torch.int64, device=call.q.device)
        if self.calls[key] <= WARMUP:
            return right(*call)
        return self.replay(call, self.captured[key], self.count[key].add_(1))


def bakes_in(*names: str) -> Replay:
    """Some inputs are those of the capture for ever."""
    return lambda call, captured, count: right(*call._replace(**{name: getattr(captured, name) for name in names}))


def keeps_the_first_blocks(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    """The first block of each row is the capture's, where both have one."""
    indices = call.block_indices.clone()
    first, then = indices[..., 0], captured.block_indices[..., 0]
    indices[..., 0] = torch.where((first < 0) | (then < 0), first, then)
    return right(*call._replace(block_indices=indices))


def takes_every_row_for_full(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    """What was full at the capture is full for ever: no padding, no partial sequence."""
    full = (captured.block_indices >= 0).all()
    whole = call.seq_lens.clamp(min=captured.seq_lens.max())
    indices = torch.where(full, call.block_indices.clamp(min=0), call.block_indices)
    return right(*call._replace(block_indices=indices, seq_lens=torch.where(full, whole, call.seq_lens)))


def noise(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    output = right(*call)
    return torch.where(output == 0, 0, output + 1e-3 * torch.randn_like(output))


def sets_every_length_to_one(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    call.seq_lens.clamp_(max=1)
    return right(*call)


def cuts_rows_short(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    """Writes -1 into the middle of rows, so that its rivals, too, have less to do."""
    output = right(*call)
    call.block_indices[..., call.block_indices.shape[-1] // 2 :] = -1
    return output


def clears_beyond_the_lengths(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    """Zeroes what it would have to mask from then on."""
    output = right(*call)
    for cache in call[1:3]:
        cache.nan_to_num_(0)
    return output


def zeros(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(right(*call))


def later(wrong: Callable[[torch.Tensor], torch.Tensor]) -> Replay:
    """Right in the first replays, which are on unseen inputs; after them something is done to the output."""

    def replay(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
        output = right(*call)
        return torch.where(count > PATIENCE, wrong(output), output)

    return replay


def in_eight_bits(output: torch.Tensor) -> torch.Tensor:
    return output.to(torch.float8_e4m3fn).to(output.dtype)


def every_other_row(output: torch.Tensor) -> torch.Tensor:
    place = torch.arange(output[..., 0, 0].numel(), device=output.device).view(*output.shape[:2], 1, 1)
    return torch.where(place % 2 == 0, output, 0)


def first_and_last_row(output: torch.Tensor) -> torch.Tensor:
    place = torch.arange(output[..., 0, 0].numel(), device=output.device).view(*output.shape[:2], 1, 1)
    return torch.where((place == 0) | (place == place.max()), output, 0)


def older_query(weight: float) -> Replay:
    """After the first replays a part of the output is of the query of the capture."""

    def replay(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
        output, old = right(*call), right(*call._replace(q=captured.q))
        return torch.where(count > PATIENCE, (1 - weight) * output + weight * old, output)

    return replay


class WorksInSomeReplays:
    """A replay in so many does the work; the others return what that one left."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.left: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
        output = right(*call)
        left = self.left.setdefault((output.shape, output.dtype), output.clone())
        return left.copy_(torch.where(count % self.every == 0, output, left)).clone()


def captured(replay: Callable[[], Replay], check: str, because: str = "oracle error", *, only: bool = False) -> Entry:
    """The entry of a kernel that cheats in its graph."""
    return Entry(lambda: Captured(replay()), check, because, only)


GRAPH_CHEATS: dict[str, Entry] = {
    "bakes the block indices into its graph": captured(lambda: bakes_in("block_indices"), "unseen inputs"),
    "bakes the first block of each row into its graph": captured(
        lambda: keeps_the_first_blocks, "unseen inputs", only=True
    ),
    "bakes the lengths into its graph": captured(lambda: bakes_in("seq_lens"), "unseen inputs"),
    "packs K and V before its capture": captured(lambda: bakes_in("k", "v"), "timed outputs"),
    "bakes the query into its graph": captured(lambda: bakes_in("q"), "timed outputs"),
    "takes every row for full in its graph": captured(lambda: takes_every_row_for_full, "first sight", "not finite"),
    "adds noise in its graph": captured(lambda: noise, "same bits", "differ"),
    "sets every length to 1 in its graph": captured(
        lambda: sets_every_length_to_one, "inputs unchanged", "the input seq_lens was changed"
    ),
    "cuts rows short for its rivals": captured(
        lambda: cuts_rows_short, "inputs unchanged", "the input block_indices was changed"
    ),
    "clears what is beyond the lengths in its graph": captured(
        lambda: clears_beyond_the_lengths, "inputs unchanged", "was changed", only=True
    ),
    "returns zeros in its graph": captured(lambda: zeros, "unseen inputs"),
    "rounds to eight bits once the unseen inputs are over": captured(
        lambda: later(in_eight_bits), "timed outputs", only=True
    ),
    "computes every other row once the unseen inputs are over": captured(
        lambda: later(every_other_row), "timed outputs", only=True
    ),
    "computes the rows that it thinks are judged": captured(
        lambda: later(first_and_last_row), "timed outputs", only=True
    ),
    "returns zeros once the unseen inputs are over": captured(
        lambda: later(torch.zeros_like), "timed outputs", only=True
    ),
    "mixes in what it knows of the capture": captured(lambda: older_query(0.25), "timed outputs", only=True),
    "works in one replay of four": captured(lambda: WorksInSomeReplays(4), "timed outputs"),
    "works in the last replay only": captured(lambda: WorksInSomeReplays(12), "timed outputs"),
}
