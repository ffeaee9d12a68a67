"""Honest kernels that are wrong on ordinary inputs, in one realistic way each."""

from __future__ import annotations

import math

import torch
from wrong.entry import Entry, fixed
from wrong.kernels import Tokens, gathered, kernel, right, selected, when

from nsa.bench.method.inputs import Call
from nsa.errors import InputError

DIVISION = 1.02
NOISE = 1e-5  # far below rounding in half precision, which it tips over here and there


def one_token_more(call: Call, tokens: Tokens) -> Tokens:
    return tokens._replace(inside=(tokens.place >= 0) & (tokens.place <= call.seq_lens[:, None, None]))


def first_token_only(call: Call, tokens: Tokens) -> Tokens:
    """A causal mask aligned top-left, with which one query sees the first packed token only."""
    return tokens._replace(inside=tokens.inside & (tokens.inside.cumsum(-1) == 1))


def padding_is_block_zero(call: Call) -> Call:
    return call._replace(block_indices=call.block_indices.clamp(min=0))


def padding_is_the_last_block(call: Call) -> Call:
    last = ((call.seq_lens - 1).clamp(min=0) // call.block_size)[:, None, None].int()
    return call._replace(block_indices=torch.where(call.block_indices < 0, last, call.block_indices))


def every_fourth_block_missing(call: Call) -> Call:
    blocks = call.block_indices.clone()
    blocks[..., 3::4] = -1
    return call._replace(block_indices=blocks)


def forgets_a_rescale(scores: torch.Tensor) -> torch.Tensor:
    """Two splits, each with its own running maximum, added without bringing them to a common one."""
    halves = scores.split(scores.shape[-1] // 2, -1)
    weights = torch.cat([(half - half.amax(-1, keepdim=True).clamp(min=-1e30)).exp() for half in halves], -1)
    return (weights / weights.sum(-1, keepdim=True)).nan_to_num(0)


def accumulates_in_half(*arguments: object) -> torch.Tensor:
    call = Call(*arguments)
    tokens = selected(call)
    v = gathered(call.v, tokens)
    s = call.q.float() @ gathered(call.k, tokens).transpose(-1, -2) * call.q.shape[-1] ** -0.5
    p = s.masked_fill(~tokens.inside[:, :, None], -math.inf).softmax(-1).nan_to_num(0)
    o = torch.zeros(*call.q.shape[:3], call.v.shape[3], dtype=torch.bfloat16, device=v.device)
    for first in range(0, p.shape[-1], 16):
        now = slice(first, first + 16)
        o = o + (p[..., now] @ v[:, :, now]).bfloat16()
    return o.to(call.q.dtype)


def rounds_probabilities(scores: torch.Tensor) -> torch.Tensor:
    return scores.softmax(-1).nan_to_num(0).bfloat16().float()


def rounds_scores(scores: torch.Tensor) -> torch.Tensor:
    return scores.bfloat16().float()


def zeroes_one_row(call: Call, o: torch.Tensor) -> torch.Tensor:
    o[-1, -1, -1] = 0
    return o.to(call.q.dtype)


def leaves_a_head_unwritten(*arguments: object) -> torch.Tensor:
    call = Call(*arguments)
    o = torch.empty(*call.q.shape[:3], call.v.shape[3], dtype=call.q.dtype, device=call.q.device)
    o[:, :, :-1] = right(*arguments)[:, :, :-1]
    return o


def noise_in_empty_rows(call: Call, o: torch.Tensor) -> torch.Tensor:
    """A row without a block, of a sequence that has tokens and beside rows that have blocks, is not exactly zero.

    A sequence by itself is right: that is how reads are counted.
    """
    empty = (call.block_indices < 0).all(-1)
    seen = empty & (call.seq_lens > 0)[:, None] & ~empty.all() & (len(empty) > 1)
    return torch.where(seen[..., None, None], 1e-4, o).to(call.q.dtype)


def averages_in_an_empty_row(call: Call, tokens: Tokens) -> Tokens:
    empty = (call.block_indices < 0).all(-1, keepdim=True)
    first = torch.arange(tokens.place.shape[-1], device=call.q.device).expand_as(tokens.place)
    inside = first < call.seq_lens[:, None, None]
    return Tokens(torch.where(empty, first, tokens.place), torch.where(empty, inside, tokens.inside))


def noisy(call: Call, o: torch.Tensor) -> torch.Tensor:
    return (o * (1 + NOISE * torch.randn_like(o))).to(call.q.dtype)


def folds_the_scale_into_q(*arguments: object) -> torch.Tensor:
    call = Call(*arguments)
    call.q.mul_(call.q.shape[-1] ** -0.5)
    return kernel(scale=lambda call: 1.0)(*arguments)


def clears_its_padding(*arguments: object) -> torch.Tensor:
    o = right(*arguments)
    Call(*arguments).block_indices.clamp_(min=0)
    return o


def refuses_the_grid(*arguments: object) -> torch.Tensor:
    if Call(*arguments).k.shape[2] >= 256:
        raise InputError("k: got a capacity of 256 or more, expected less")
    return right(*arguments)


class TunesInItsSecondCall:
    """What the second call returns is of a launch configuration that was tried and dropped."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *arguments: object) -> torch.Tensor:
        self.calls += 1
        return right(*arguments) * (0.5 if self.calls == 2 else 1)


class EarlierOutput:
    """Returns what the call before returned, where the shape fits: a copy too few between two buffers."""

    def __init__(self) -> None:
        self.last: torch.Tensor | None = None

    def __call__(self, *arguments: object) -> torch.Tensor:
        last, self.last = self.last, right(*arguments)
        return self.last if last is None or (last.shape, last.dtype) != (self.last.shape, self.last.dtype) else last


HONEST: dict[str, Entry] = {
    "drops the newest token": fixed(
        kernel(given=lambda call: call._replace(seq_lens=call.seq_lens - 1)), "reads", "tokens where it was given"
    ),
    "drops the partial block": fixed(
        kernel(given=lambda call: call._replace(seq_lens=call.seq_lens // call.block_size * call.block_size)),
        "reads",
        "tokens where it was given",
    ),
    "reads one token beyond the length": fixed(kernel(tokens=one_token_more), "first sight", "not finite"),
    "takes a partial block for a full one": fixed(
        kernel(tokens=lambda call, tokens: tokens._replace(inside=tokens.place >= 0)), "first sight", "not finite"
    ),
    "takes padding for block 0": fixed(kernel(given=padding_is_block_zero), "first sight", "not exactly zero"),
    "takes padding for the last block": fixed(kernel(given=padding_is_the_last_block), "fresh inputs"),
    "forgets a split's rescale": fixed(kernel(weights=forgets_a_rescale), "fresh inputs"),
    "leaves the logits unscaled": fixed(kernel(scale=lambda call: 1.0), "fresh inputs"),
    "scales the logits by 2 % too much": fixed(
        kernel(scale=lambda call: DIVISION * call.q.shape[-1] ** -0.5), "fresh inputs"
    ),
    "scales the output by 2 %": fixed(kernel(output=lambda call, o: (o * DIVISION).to(call.q.dtype)), "fresh inputs"),
    "reads another group's keys": fixed(
        when(
            lambda call: call.k.numel() < 2**24,
            kernel(given=lambda call: call._replace(k=call.k.nan_to_num().roll(1, 1))),
        ),
        "fresh inputs",
    ),
    "swaps two heads": fixed(kernel(given=lambda call: call._replace(q=call.q.flip(2))), "fresh inputs"),
    "reads the first group's values in all": fixed(
        kernel(given=lambda call: call._replace(v=call.v[:, :1].expand_as(call.v))), "fresh inputs"
    ),
    "takes the first sequence's length for all": fixed(
        kernel(given=lambda call: call._replace(seq_lens=call.seq_lens[:1].expand_as(call.seq_lens))),
        "first sight",
        "not finite",
    ),
    "zeroes one row": fixed(kernel(output=zeroes_one_row), "fresh inputs"),
    "leaves a head unwritten": fixed(leaves_a_head_unwritten, "first sight", "not finite"),
    "accumulates in bfloat16": fixed(accumulates_in_half, "fresh inputs"),
    "rounds probabilities to bfloat16": fixed(kernel(weights=rounds_probabilities), "fresh inputs"),
    "rounds scores to bfloat16": fixed(kernel(scores=rounds_scores), "fresh inputs"),
    "sees the first token only": fixed(kernel(tokens=first_token_only), "reads", "reads 1 tokens"),
    "averages in an empty row": fixed(kernel(tokens=averages_in_an_empty_row), "first sight", "not exactly zero"),
    "leaves noise in empty rows": fixed(
        kernel(output=noise_in_empty_rows), "first sight", "not exactly zero", only=True
    ),
    "is nondeterministic": fixed(kernel(output=noisy), "same bits", "differ", only=True),
    "folds the scale into q": fixed(folds_the_scale_into_q, "inputs unchanged", "the input q was changed"),
    "clears its padding": fixed(clears_its_padding, "inputs unchanged", "the input block_indices was changed"),
    "skips every fourth block": fixed(kernel(given=every_fourth_block_missing), "reads", "tokens where it was given"),
    "returns float32": fixed(kernel(output=lambda call, o: o), "first sight", "float32"),
    "refuses the grid": fixed(refuses_the_grid, "takes the grid", "refused: k: got a capacity", only=True),
    "tunes in its second call": Entry(TunesInItsSecondCall, "fresh inputs", only=True),
    "returns an earlier call's output": Entry(EarlierOutput, "same bits", "nondeterministic or stale"),
}
