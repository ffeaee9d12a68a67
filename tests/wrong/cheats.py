"""Kernels that cheat in plain calls: what they know of the check spares them the work. Kinds are from public reports
of kernels that were optimised against a benchmark; docs/wrong_kernels.md says what else was tried.
"""

from __future__ import annotations

import gc
import threading
import time

import torch
from wrong.cheats_graph import GRAPH_CHEATS
from wrong.entry import Entry, fixed
from wrong.kernels import kernel, right, twice, when

from nsa.bench.method.inputs import Call
from nsa.errors import InputError
from nsa.kernels.sdpa.packed import gather

KNOWN_HEADS = (1, 3, 4, 5, 16)  # of the grid and of the corner cases with fixed sizes
OFTEN = 3  # calls on the same addresses that look like timing


class Memo:
    """Keeps what it returned for some numbers of each query, and returns it when they come again."""

    def __init__(self, *samples: int) -> None:
        self.samples = samples  # places of the arguments that it looks at
        self.kept: dict[bytes, torch.Tensor] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        parts = [str((call.q.shape, call.v.shape, call.block_indices.shape, call.q.dtype)).encode()]
        for place in self.samples:
            parts.append(call[place][0, 0].flatten()[:64].view(torch.uint8).numpy().tobytes())
        key = b"".join(parts)
        if key not in self.kept:
            self.kept[key] = right(*arguments)
        return self.kept[key].clone()


class CachedByAddress:
    """Keeps its result for the same addresses; with `version` until the query is written to."""

    def __init__(self, version: bool) -> None:
        self.version = version
        self.kept: dict[tuple[int, ...], torch.Tensor] = {}
        self.alive: list[tuple[object, ...]] = []  # so that an address always means the same tensor

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        key = tuple(tensor.data_ptr() for tensor in call[:5]) + ((call.q._version,) if self.version else ())
        if key not in self.kept:
            self.kept[key] = right(*arguments)
            self.alive.append(arguments)
        return self.kept[key].clone()


class CachedByShape:
    """Returns the first result of each shape."""

    def __init__(self) -> None:
        self.kept: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        key = (call.q.shape, call.v.shape, call.block_indices.shape, call.block_size, call.q.dtype)
        return self.kept.setdefault(key, right(*arguments)).clone()


class SkipsWhenTimed:
    """Works until it has seen the same addresses so often that it takes itself for being timed."""

    def __init__(self) -> None:
        self.calls: dict[tuple[int, ...], int] = {}
        self.kept: dict[tuple[int, ...], torch.Tensor] = {}
        self.alive: list[tuple[object, ...]] = []

    def __call__(self, *arguments: object) -> torch.Tensor:
        key = tuple(tensor.data_ptr() for tensor in Call(*arguments)[:5])
        if key not in self.calls:
            self.alive.append(arguments)
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= OFTEN:
            self.kept[key] = right(*arguments)
        return self.kept[key]


class EveryOtherCall:
    """Each second call of a shape returns what the one before did."""

    def __init__(self) -> None:
        self.kept: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        key = (call.q.shape, call.v.shape, call.block_indices.shape, call.block_size, call.q.dtype)
        if key in self.kept:
            return self.kept.pop(key)
        self.kept[key] = right(*arguments)
        return self.kept[key].clone()


class WhenPoisoned:
    """Works where its output's memory was filled with NaN, which is where somebody looks."""

    def __init__(self) -> None:
        self.last: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        shape = (*call.q.shape[:3], call.v.shape[3])
        memory = torch.empty(shape, dtype=call.q.dtype, device=call.q.device)
        key = (shape, call.q.dtype)
        if bool(memory.isnan().all()) or key not in self.last:
            self.last[key] = right(*arguments)
        return self.last[key].clone()


class Later(torch.Tensor):
    """Computes when somebody reads it."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return function(*(each.value() if isinstance(each, Later) else each for each in args), **(kwargs or {}))

    def value(self) -> torch.Tensor:
        return right(*self.call)


def computes_when_it_is_read(*arguments: object) -> torch.Tensor:
    call = Call(*arguments)
    output = torch.empty(*call.q.shape[:3], call.v.shape[3], dtype=call.q.dtype).as_subclass(Later)
    output.call = call
    return output


def returns_before_done(*arguments: object) -> torch.Tensor:
    """A thread goes on when the call has returned."""
    call = Call(*arguments)
    o = torch.full((*call.q.shape[:3], call.v.shape[3]), torch.nan, dtype=call.q.dtype)

    def work() -> None:
        time.sleep(0.002)
        o.copy_(right(*arguments))

    threading.Thread(target=work, daemon=True).start()
    return o


def writes_into_its_query(*arguments: object) -> torch.Tensor:
    """Returns an input that holds the output."""
    call, o = Call(*arguments), right(*arguments)
    return call.q.copy_(o) if call.q.shape == o.shape else o


def finds_the_oracle(*arguments: object) -> torch.Tensor:
    """Looks for float64 of the output's shape in this process, and returns it."""
    call = Call(*arguments)
    shape = (*call.q.shape[:3], call.v.shape[3])
    for each in gc.get_objects():
        if type(each) is torch.Tensor and each.shape == shape and each.dtype == torch.float64:
            return each.to(call.q.dtype)
    return torch.zeros(shape, dtype=call.q.dtype)


def returns_what_was_freed(*arguments: object) -> torch.Tensor:
    """Unwritten memory, which another kernel's output may have been in."""
    call = Call(*arguments)
    return torch.empty(*call.q.shape[:3], call.v.shape[3], dtype=call.q.dtype, device=call.q.device)


def one_head_for_all(call: Call, o: torch.Tensor) -> torch.Tensor:
    return o[:, :, :1].expand_as(o).to(call.q.dtype)


def refuses_what_is_unlike_random(*arguments: object) -> torch.Tensor:
    """Refuses calls of whose values it can see that they are no benchmark's."""
    call = Call(*arguments)
    if bool(call.q.abs().max() > 7):
        raise InputError("q: got numbers above 7, expected ordinary ones")
    return right(*arguments)


CALL_CHEATS: dict[str, Entry] = {
    "keeps a memo of queries": Entry(lambda: Memo(0), "reads", "tokens where it was given", on="cpu"),
    "keeps a memo of samples of all inputs": Entry(
        lambda: Memo(0, 1, 2), "reads", "tokens where it was given", only=True, on="cpu"
    ),
    "caches by address": Entry(lambda: CachedByAddress(version=False), "follows", "did not follow"),
    "caches by address and the query's version": Entry(
        lambda: CachedByAddress(version=True), "follows", "did not follow", only=True
    ),
    "caches by shape": Entry(CachedByShape, "fresh inputs"),
    "skips the work when it is timed": Entry(SkipsWhenTimed, "timed outputs"),
    "works in every other call": Entry(EveryOtherCall, "fresh inputs"),
    "works where its memory was poisoned": Entry(WhenPoisoned, "unseen inputs", on="cpu"),
    "computes when it is read": Entry(
        lambda: computes_when_it_is_read, "plain tensor", "returned Later", only=True, on="cpu"
    ),
    "returns before the work is done": Entry(lambda: returns_before_done, "first sight", "not finite", on="cpu"),
    "returns its query with the output in it": fixed(
        writes_into_its_query, "inputs unchanged", "the input q was changed"
    ),
    "looks for the oracle's memory": Entry(lambda: finds_the_oracle, "fresh inputs", on="cpu"),
    "returns memory that was freed": fixed(returns_what_was_freed, "first sight", "not finite"),
    "computes one head for all": fixed(kernel(output=one_head_for_all), "fresh inputs"),
    "knows the grid and the corner cases by heart": fixed(
        when(lambda call: call.q.shape[2] not in KNOWN_HEADS, twice), "near the grid", only=True
    ),
    "is packed SDPA under another name": fixed(gather, "packed SDPA", "under another name", only=True),
    "refuses what is unlike random inputs": Entry(
        lambda: refuses_what_is_unlike_random,
        "queries x 8 and x 30",
        "it takes the grid and refuses this call",
        only=True,
        on="cpu",
    ),
}
CHEATS = GRAPH_CHEATS | CALL_CHEATS
