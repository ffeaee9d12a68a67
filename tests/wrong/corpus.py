"""Selection kernels that are wrong in one realistic way each, and one that is right.

`right` is dense masked attention in float32; every wrong kernel is that kernel with one mistake.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from nsa.bench.method.inputs import Call
from nsa.kernels.contract import SelectAttention
from nsa.kernels.sdpa.packed import gather


class Wrong(NamedTuple):
    """A wrong kernel and the words that its rejection must contain."""

    kernel: SelectAttention
    because: str


def seen_tokens(call: Call) -> torch.Tensor:
    """[B, G, S_max]: the tokens of the selected blocks, clipped to the lengths."""
    token = torch.arange(call.k.shape[2])
    chosen = (call.block_indices[..., None] == token // call.block_size).any(2)
    return chosen & (token < call.seq_lens[:, None, None])


def attend(call: Call, seen: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """Dense masked attention in float32; rows that see nothing are zero."""
    k, v = (torch.where(seen[..., None], tensor.float(), 0) for tensor in (call.k, call.v))
    scores = call.q.float() @ k.transpose(-1, -2) * (scale or call.q.shape[-1] ** -0.5)
    p = scores.masked_fill(~seen[:, :, None], -math.inf).softmax(-1)
    return torch.where(seen.any(-1)[..., None, None], p, 0) @ v


def right(*arguments) -> torch.Tensor:
    """The right kernel."""
    call = Call(*arguments)
    return attend(call, seen_tokens(call)).to(call.q.dtype)


def changed(**changes: Callable[[Call], torch.Tensor]) -> SelectAttention:
    """The right kernel on arguments of which some are taken wrongly."""

    def kernel(*arguments) -> torch.Tensor:
        call = Call(*arguments)
        return right(*call._replace(**{name: change(call) for name, change in changes.items()}))

    return kernel


def scaled(scale: Callable[[Call], float]) -> SelectAttention:
    """The right kernel with another scale of the logits."""

    def kernel(*arguments) -> torch.Tensor:
        call = Call(*arguments)
        return attend(call, seen_tokens(call), scale(call)).to(call.q.dtype)

    return kernel


def spoiled(spoil: Callable[[torch.Tensor], torch.Tensor]) -> SelectAttention:
    """The right kernel with its output spoiled."""
    return lambda *arguments: spoil(right(*arguments))


def zero_one_row(o: torch.Tensor) -> torch.Tensor:
    o[-1, -1, -1] = 0
    return o


def unwritten_head(*arguments) -> torch.Tensor:
    call = Call(*arguments)
    o = torch.empty(*call.q.shape[:3], call.v.shape[3], dtype=call.q.dtype)
    o[:, :, :-1] = right(*arguments)[:, :, :-1]
    return o


def reads_one_beyond(*arguments) -> torch.Tensor:
    call = Call(*arguments)
    token = torch.arange(call.k.shape[2])
    chosen = (call.block_indices[..., None] == token // call.block_size).any(2)
    return attend(call, chosen & (token <= call.seq_lens[:, None, None])).to(call.q.dtype)


def forgets_a_rescale(*arguments) -> torch.Tensor:
    """Two splits, each with its own running maximum, added without bringing them to a common one."""
    call = Call(*arguments)
    seen = seen_tokens(call)
    k, v = (torch.where(seen[..., None], tensor.float(), 0) for tensor in (call.k, call.v))
    scores = (call.q.float() @ k.transpose(-1, -2) * call.q.shape[-1] ** -0.5).masked_fill(~seen[:, :, None], -math.inf)
    numerator, denominator = torch.zeros(()), torch.zeros(())
    for part in (slice(0, scores.shape[-1] // 2), slice(scores.shape[-1] // 2, None)):
        top = scores[..., part].amax(-1, keepdim=True).clamp(min=-1e30)
        weight = (scores[..., part] - top).exp()
        numerator, denominator = numerator + weight @ v[:, :, part], denominator + weight.sum(-1, keepdim=True)
    return torch.where(seen.any(-1)[..., None, None], numerator / denominator, 0).to(call.q.dtype)


def accumulates_in_fp16(*arguments) -> torch.Tensor:
    call = Call(*arguments)
    seen = seen_tokens(call)
    v = torch.where(seen[..., None], call.v.float(), 0)
    one_hot = attend(call._replace(v=torch.eye(call.k.shape[2]).expand(*call.k.shape[:3], -1)), seen)  # probabilities
    o = torch.zeros(*call.q.shape[:3], call.v.shape[3], dtype=torch.float16)
    for token in range(call.k.shape[2]):
        o = o + (one_hot[..., token, None] * v[:, :, None, token]).half()
    return o.to(call.q.dtype)


def first_token_only(*arguments) -> torch.Tensor:
    """A causal mask aligned top-left, with which one query sees the first packed token only."""
    call = Call(*arguments)
    seen = seen_tokens(call)
    return attend(call, seen & (seen.cumsum(-1) == 1)).to(call.q.dtype)


def empty_rows_average(*arguments) -> torch.Tensor:
    call = Call(*arguments)
    seen = seen_tokens(call)
    inside = torch.arange(call.k.shape[2]) < call.seq_lens[:, None, None]
    return attend(call, torch.where(seen.any(-1, keepdim=True), seen, inside)).to(call.q.dtype)


class EarlierOutput:
    """Returns what the call before returned, where the shape fits."""

    def __init__(self) -> None:
        self.last: torch.Tensor | None = None

    def __call__(self, *arguments) -> torch.Tensor:
        last, self.last = self.last, right(*arguments)
        return self.last if last is None or last.shape != self.last.shape else last


class CachedByPointer:
    """Keeps its result for the same addresses."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, ...], torch.Tensor] = {}
        self.alive: list[tuple] = []  # the inputs stay alive, so that an address always means the same tensor

    def __call__(self, *arguments) -> torch.Tensor:
        key = tuple(tensor.data_ptr() for tensor in arguments[:5])
        if key not in self.kept:
            self.kept[key] = right(*arguments)
            self.alive.append(arguments)
        return self.kept[key].clone()


class SkipsWhenTimed:
    """Works until it has seen the same addresses three times, which it takes for being timed."""

    def __init__(self) -> None:
        self.calls: dict[tuple[int, ...], int] = {}
        self.kept: dict[tuple[int, ...], torch.Tensor] = {}
        self.alive: list[tuple] = []

    def __call__(self, *arguments) -> torch.Tensor:
        key = tuple(tensor.data_ptr() for tensor in arguments[:5])
        if key not in self.calls:
            self.alive.append(arguments)
        self.calls[key] = self.calls.get(key, 0) + 1
        if self.calls[key] <= 3:
            self.kept[key] = right(*arguments)
        return self.kept[key]


def returns_before_done(*arguments) -> torch.Tensor:
    call = Call(*arguments)
    o = torch.full((*call.q.shape[:3], call.v.shape[3]), torch.nan, dtype=call.q.dtype)

    def work() -> None:
        time.sleep(0.002)
        o.copy_(right(*arguments))

    threading.Thread(target=work, daemon=True).start()
    return o


def mutates_its_query(*arguments) -> torch.Tensor:
    call = Call(*arguments)
    call.q.mul_(call.q.shape[-1] ** -0.5)  # folds the scale into q, in place
    return attend(call, seen_tokens(call), 1.0).to(call.q.dtype)


def mutates_its_indices(*arguments) -> torch.Tensor:
    o = right(*arguments)
    Call(*arguments).block_indices.clamp_(min=0)
    return o


def packed_under_another_name(*arguments) -> torch.Tensor:
    return gather(*arguments)


def skips_every_fourth_block(call: Call) -> torch.Tensor:
    blocks = call.block_indices.clone()
    blocks[..., 3::4] = -1
    return blocks


DIVISION = 1.02
CORPUS: dict[str, Callable[[], Wrong]] = {
    "drops the newest token": lambda: Wrong(changed(seq_lens=lambda c: c.seq_lens - 1), "tokens where it was given"),
    "drops the partial block": lambda: Wrong(
        changed(seq_lens=lambda c: c.seq_lens // c.block_size * c.block_size), "tokens where it was given"
    ),
    "reads one token beyond S": lambda: Wrong(reads_one_beyond, "not finite"),
    "takes -1 as block 0": lambda: Wrong(
        changed(block_indices=lambda c: c.block_indices.clamp(min=0)), "not exactly zero"
    ),
    "forgets a split's rescale": lambda: Wrong(forgets_a_rescale, "oracle error"),
    "leaves the logits unscaled": lambda: Wrong(scaled(lambda c: 1.0), "oracle error"),
    "scales the logits by 2 % too much": lambda: Wrong(
        scaled(lambda c: DIVISION * c.q.shape[-1] ** -0.5), "oracle error"
    ),
    "scales by Dv in place of D": lambda: Wrong(scaled(lambda c: c.v.shape[-1] ** -0.5), "oracle error"),
    "scales the output by 2 %": lambda: Wrong(spoiled(lambda o: o * DIVISION), "oracle error"),
    "reads another group's keys": lambda: Wrong(changed(k=lambda c: c.k.roll(1, 1)), "oracle error"),
    "swaps two heads": lambda: Wrong(changed(q=lambda c: c.q.flip(2)), "oracle error"),
    "repeats the last group": lambda: Wrong(
        changed(v=lambda c: torch.cat((c.v[:, :-1], c.v[:, -2:-1]), 1)), "oracle error"
    ),
    "returns an earlier call's output": lambda: Wrong(EarlierOutput(), "nondeterministic or stale"),
    "caches its result by pointer": lambda: Wrong(CachedByPointer(), "cached or stale"),
    "zeroes one row": lambda: Wrong(spoiled(zero_one_row), "oracle error"),
    "leaves a head unwritten": lambda: Wrong(unwritten_head, "not finite, or was not written"),
    "accumulates in fp16": lambda: Wrong(accumulates_in_fp16, "oracle error"),
    "sees only the first token (causal mask, top-left)": lambda: Wrong(first_token_only, "reads 1 tokens"),
    "averages over everything in an empty row": lambda: Wrong(empty_rows_average, "not exactly zero"),
    "is nondeterministic": lambda: Wrong(
        spoiled(lambda o: torch.where(o == 0, 0, o * (1 + 4e-4 * torch.randn_like(o)))), "nondeterministic"
    ),
    "changes q": lambda: Wrong(mutates_its_query, "the input q was changed"),
    "changes the block indices": lambda: Wrong(mutates_its_indices, "the input block_indices was changed"),
    "skips the work when it is timed": lambda: Wrong(SkipsWhenTimed(), "oracle error"),
    "returns before the work is done": lambda: Wrong(returns_before_done, "not finite"),
    "is packed SDPA under another name": lambda: Wrong(packed_under_another_name, "under another name"),
    "skips every fourth block": lambda: Wrong(
        changed(block_indices=skips_every_fourth_block), "tokens where it was given"
    ),
    "returns float32": lambda: Wrong(spoiled(lambda o: o.float()), "float32"),
}
