"""Right selection kernels of two designs, and what wrong ones are made of: the right one with one step replaced."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from nsa.bench.method.inputs import Call
from nsa.kernels.contract import SelectAttention

Change = Callable[[Call], Call]


class Tokens(NamedTuple):
    """What the rows of a call select: places in the cache [B, G, T], and which of them hold a token."""

    place: torch.Tensor
    inside: torch.Tensor


def selected(call: Call) -> Tokens:
    """All n·l' places of each row."""
    offset = torch.arange(call.block_size, device=call.q.device)
    place = (call.block_indices.long()[..., None] * call.block_size + offset).flatten(2)
    return Tokens(place, (place >= 0) & (place < call.seq_lens[:, None, None]))


def gathered(cache: torch.Tensor, tokens: Tokens) -> torch.Tensor:
    """The selected tokens of a cache in float32, [B, G, T, width]; what is not inside is zero.

    By index and in place: on a CPU a quarter of the time of Tensor.gather and masked_fill.
    """
    batch, group = (torch.arange(size, device=cache.device) for size in cache.shape[:2])
    found = cache[batch[:, None, None], group[:, None], tokens.place.clamp(0, cache.shape[2] - 1)].float()
    return found.masked_fill_(~tokens.inside[..., None], 0)


def softmax(scores: torch.Tensor) -> torch.Tensor:
    """Over the last dimension; zeros where there is no score."""
    return scores.softmax(-1).nan_to_num(0)


def kernel(
    *,
    given: Change = lambda call: call,
    tokens: Callable[[Call, Tokens], Tokens] = lambda call, tokens: tokens,
    keys: Callable[[Call, torch.Tensor], torch.Tensor] = lambda call, k: k,
    values: Callable[[Call, torch.Tensor], torch.Tensor] = lambda call, v: v,
    scale: Callable[[Call], float] = lambda call: call.q.shape[-1] ** -0.5,
    scores: Callable[[torch.Tensor], torch.Tensor] = lambda scores: scores,
    weights: Callable[[torch.Tensor], torch.Tensor] = softmax,
    output: Callable[[Call, torch.Tensor], torch.Tensor] = lambda call, o: o.to(call.q.dtype),
) -> SelectAttention:
    """Selected attention in float32; each argument replaces one step of it."""

    def run(*arguments: object) -> torch.Tensor:
        call = given(Call(*arguments))
        found = tokens(call, selected(call))
        k, v = keys(call, gathered(call.k, found)), values(call, gathered(call.v, found))
        s = scores(call.q.float() @ k.transpose(-1, -2) * scale(call))
        p = weights(s.masked_fill(~found.inside[:, :, None], -math.inf))
        return output(call, p @ v)

    return run


right = kernel()


def streaming(*arguments: object) -> torch.Tensor:
    """The right kernel of another design: block by block, with a running maximum and sum in float32."""
    call = Call(*arguments)
    B, G, h, D = call.q.shape
    q = call.q.float() * (math.log2(math.e) / D**0.5)
    top = torch.full((B, G, h, 1), -1e30, device=q.device)
    total, o = torch.zeros_like(top), torch.zeros(B, G, h, call.v.shape[3], device=q.device)
    for block in range(call.block_indices.shape[2]):
        one = call._replace(block_indices=call.block_indices[..., block : block + 1])
        tokens = selected(one)
        s = (q @ gathered(call.k, tokens).transpose(-1, -2)).masked_fill(~tokens.inside[:, :, None], -math.inf)
        now = torch.maximum(top, s.amax(-1, keepdim=True))
        p, rescale = torch.exp2(s - now), torch.exp2(top - now)
        total, o, top = total * rescale + p.sum(-1, keepdim=True), o * rescale + p @ gathered(call.v, tokens), now
    return torch.where(total > 0, o / total, 0).to(call.q.dtype)


def exponentials(call: Call, tokens: Tokens) -> torch.Tensor:
    """[B, G, h, tokens] of scores, relative to the greatest of each head; zeros where there is no token."""
    s = call.q.float() @ gathered(call.k, tokens).transpose(-1, -2) * call.q.shape[-1] ** -0.5
    s = s.masked_fill(~tokens.inside[:, :, None], -math.inf)
    return (s - s.amax(-1, keepdim=True).clamp(min=-1e30)).exp()


def rounded(*arguments: object) -> torch.Tensor:
    """The right kernel with probabilities in the dtype of the inputs, as matrix units take them; sums in float32."""
    call = Call(*arguments)
    tokens = selected(call)
    p = exponentials(call, tokens)
    o = p.to(call.q.dtype).float() @ gathered(call.v, tokens) / p.sum(-1, keepdim=True)
    return torch.where(tokens.inside.any(-1)[..., None, None], o, 0).to(call.q.dtype)


def when(condition: Callable[[Call], bool], wrong: SelectAttention) -> SelectAttention:
    """Right, but for calls of which the host can see something."""
    return lambda *arguments: wrong(*arguments) if condition(Call(*arguments)) else right(*arguments)


twice = kernel(output=lambda call, o: (2 * o).to(call.q.dtype))  # as wrong as can be: for what is never to run
HONEST = {"float32": right, "streaming": streaming, "rounded probabilities": rounded}
