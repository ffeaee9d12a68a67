"""Honest kernels that are wrong for some values, lengths or orders of calls, each seen by one corner case."""

from __future__ import annotations

import math

import torch
from wrong.entry import Entry, fixed
from wrong.kernels import Tokens, exponentials, gathered, kernel, right, selected, softmax, when

from nsa.bench.method.inputs import Call
from nsa.kernels.contract import SelectAttention

SMALL = 1.2e-5  # probabilities that are taken for nothing
CAP = 60.0  # of scores, below which an exponential without the maximum stays finite
STEPS = 2**22  # between the extremes of a row's values
WIDEST = 48.0  # of a key's numbers


def without_the_maximum(scores: torch.Tensor) -> torch.Tensor:
    weights = scores.exp()
    total = weights.sum(-1, keepdim=True)
    return torch.where((scores == -math.inf).all(-1, keepdim=True), 0, weights / total)


def maximum_of_at_least_zero(scores: torch.Tensor) -> torch.Tensor:
    weights = (scores - scores.amax(-1, keepdim=True).clamp(min=0)).exp()
    total = weights.sum(-1, keepdim=True)
    return torch.where((scores == -math.inf).all(-1, keepdim=True), 0, weights / total)


def without_small_ones(scores: torch.Tensor) -> torch.Tensor:
    p = softmax(scores)
    return torch.where(p < SMALL, 0, p)


def no_division_where_all_are_equal(scores: torch.Tensor) -> torch.Tensor:
    some = scores > -math.inf
    low = scores.masked_fill(~some, math.inf).amin(-1, keepdim=True)
    high = scores.amax(-1, keepdim=True)
    p = softmax(scores)
    return torch.where((high == low) & (some.sum(-1, keepdim=True) > 1), p * some.sum(-1, keepdim=True), p)


def polynomial(scores: torch.Tensor) -> torch.Tensor:
    """An exponential by its series, which holds for scores as random inputs have them."""
    s = torch.where(scores == -math.inf, 0, scores)
    series = sum(s**power / float(math.factorial(power)) for power in range(24))
    weights = torch.where(scores == -math.inf, 0, series)
    return (weights / weights.sum(-1, keepdim=True)).nan_to_num(0)


def rows_of_equal_queries(call: Call) -> Call:
    """A sequence with the queries of the first one has its keys and values, too."""
    like_the_first = (call.q == call.q[:1]).all(-1).all(-1)[..., None, None]  # [B, G, 1, 1]
    inside = torch.arange(call.k.shape[2], device=call.q.device)[:, None] < call.seq_lens[:, None, None, None]
    take = like_the_first & inside & inside[:1]  # what is beyond a length stays there
    k, v = (torch.where(take, cache[:1], cache) for cache in (call.k, call.v))
    return call._replace(k=k, v=v)


def equal_keys_once(call: Call, tokens: Tokens) -> Tokens:
    k = gathered(call.k, tokens)
    again = torch.zeros_like(tokens.inside)
    again[..., 1:] = (k[..., 1:, :] == k[..., :-1, :]).all(-1) & tokens.inside[..., :-1]
    zero = (k == 0).all(-1)  # counted reads have such keys
    return tokens if call.k.stride(2) == 0 else tokens._replace(inside=tokens.inside & ~(again & ~zero))


def quantised_values(call: Call, v: torch.Tensor) -> torch.Tensor:
    """In steps between the extremes of a row; a row without a range loses its offset."""
    some = (v != 0).any(-1, keepdim=True)
    low, high = v.where(some, math.inf).amin(2, keepdim=True), v.where(some, -math.inf).amax(2, keepdim=True)
    step = (high - low).clamp(min=1e-20) / STEPS
    coarse = (((v - low) / step).round() * step + low).where(some, 0)
    alike = (low == high).all(-1, keepdim=True) & (some.sum(2, keepdim=True) > 1)
    return torch.where(alike, 0, coarse)


def beyond_by_nan_only(*arguments: object) -> torch.Tensor:
    """Clears NaN beyond the lengths, and multiplies what else is there by a weight of zero."""
    call = Call(*arguments)
    tokens = selected(call)
    place = tokens.place.clamp(0, call.k.shape[2] - 1)[..., None]
    k, v = (cache.gather(2, place.expand(-1, -1, -1, cache.shape[3])).float() for cache in (call.k, call.v))
    k, v = k.masked_fill(~tokens.inside[..., None], 0), torch.where(v.isnan(), 0, v)
    s = (call.q.float() @ k.transpose(-1, -2) * call.q.shape[-1] ** -0.5).masked_fill(
        ~tokens.inside[:, :, None], -math.inf
    )
    o = softmax(s) @ v
    return torch.where(tokens.inside.any(-1)[..., None, None], o, 0).to(call.q.dtype)


def multiplies_all_values(*arguments: object) -> torch.Tensor:
    """Dense: what is not selected has a weight of zero; tokens beyond the lengths are cleared."""
    call = Call(*arguments)
    if call.k.shape[2] > 1 << 15:
        return right(*arguments)
    token = torch.arange(call.k.shape[2], device=call.q.device)
    inside = (token < call.seq_lens[:, None])[:, None, :, None]
    chosen = (call.block_indices[..., None] == token // call.block_size).any(2) & inside[..., 0]
    k = torch.where(chosen[..., None], call.k.float(), 0)
    v = torch.where(inside, call.v.float(), 0)
    s = (call.q.float() @ k.transpose(-1, -2) * call.q.shape[-1] ** -0.5).masked_fill(~chosen[:, :, None], -math.inf)
    return torch.where(chosen.any(-1)[..., None, None], softmax(s) @ v, 0).to(call.q.dtype)


def unwritten_without_blocks(call: Call, o: torch.Tensor) -> torch.Tensor:
    return torch.where((call.block_indices < 0).all(), torch.nan, o).to(call.q.dtype)


def half_of_single_tokens(call: Call, o: torch.Tensor) -> torch.Tensor:
    return torch.where((call.seq_lens <= 1).all(), o / 2, o).to(call.q.dtype)


def as_long_as_the_first(call: Call) -> Call:
    return call._replace(seq_lens=torch.minimum(call.seq_lens, call.seq_lens[:1]))


def without_a_last_block_of_one(call: Call) -> Call:
    one = (call.seq_lens % call.block_size == 1) & (call.seq_lens > call.block_size)
    return call._replace(seq_lens=call.seq_lens - one.all().int())


class KeepsPartialResults:
    """Adds what a call on longer caches left in its workspace."""

    def __init__(self) -> None:
        self.work: dict[tuple[object, ...], tuple[int, torch.Tensor]] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call, o = Call(*arguments), right(*arguments)
        key = (call.q.shape, call.v.shape[3], call.block_indices.shape, call.block_size, call.q.dtype)
        capacity, left = self.work.setdefault(key, (call.k.shape[2], o))
        return (o + left) / 2 if call.k.shape[2] < capacity else o


class SizedByItsFirstCall:
    """Has a workspace for caches as long as those of the first call of a kind, and reads no further."""

    def __init__(self) -> None:
        self.capacity: dict[tuple[object, ...], int] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        key = (call.q.shape, call.v.shape[3], call.block_indices.shape, call.block_size, call.q.dtype)
        room = self.capacity.setdefault(key, call.k.shape[2])
        return right(*call._replace(seq_lens=call.seq_lens.clamp(max=room)))


class OneBuffer:
    """Returns one buffer for all outputs of a shape."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        o = right(*arguments)
        return self.buffers.setdefault((o.shape, o.dtype), torch.empty_like(o)).copy_(o)


def sums_in_half(*arguments: object) -> torch.Tensor:
    """Partial sums of values are kept in the inputs' dtype, before they are divided."""
    call = Call(*arguments)
    tokens = selected(call)
    p = exponentials(call, tokens)
    o = (p @ gathered(call.v, tokens)).to(call.q.dtype).float() / p.sum(-1, keepdim=True)
    return torch.where(tokens.inside.any(-1)[..., None, None], o, 0).to(call.q.dtype)


def without_the_token_before_a_border(call: Call) -> Call:
    """A block that lacks one token is taken for one that lacks two."""
    almost = call.seq_lens % call.block_size == call.block_size - 1
    return call._replace(seq_lens=torch.where(almost, call.seq_lens - 1, call.seq_lens))


def state_of(make: type, check: str) -> Entry:
    return Entry(make, check, only=True)


clamped: SelectAttention = kernel(scores=lambda s: s.clamp(max=CAP))
HONEST_VALUES: dict[str, Entry] = {
    "caps scores at 60": fixed(clamped, "queries x 8 and x 30", only=True),
    "does without the maximum": fixed(kernel(weights=without_the_maximum), "queries x 8 and x 30", "not finite"),
    "has an exponential for random scores": fixed(kernel(weights=polynomial), "queries x 8 and x 30"),
    "has an exponential that is off by 0.5 %": fixed(kernel(scores=lambda s: 1.005 * s), "tail of small probabilities"),
    "drops small probabilities in half precision": fixed(
        when(lambda call: call.q.dtype != torch.float32, kernel(weights=without_small_ones)),
        "tail of small probabilities",
        only=True,
    ),
    "starts its maximum at zero": fixed(
        kernel(weights=maximum_of_at_least_zero), "low scores", "not finite", only=True
    ),
    "keeps sums of values in half precision": fixed(
        when(lambda call: call.q.dtype == torch.float16, sums_in_half),
        "large values in float16",
        "not finite",
        only=True,
    ),
    "clips outlying keys": fixed(kernel(keys=lambda call, k: k.clamp(-WIDEST, WIDEST)), "sink", only=True),
    "computes equal queries once": fixed(
        when(lambda call: call.k.shape[2] < 1 << 15, kernel(given=rows_of_equal_queries)), "equal queries", only=True
    ),
    "counts equal keys once": fixed(kernel(tokens=equal_keys_once), "equal keys", only=True),
    "does not divide where all scores are equal": fixed(
        when(lambda call: call.k.stride(2) != 0, kernel(weights=no_division_where_all_are_equal)),
        "equal scores",
        only=True,
    ),
    "quantises values between their extremes": fixed(
        when(lambda call: call.v.stride(2) != 0, kernel(values=quantised_values)), "equal values", only=True
    ),
    "clears NaN and not infinity": fixed(beyond_by_nan_only, "infinity beyond the lengths", "not finite", only=True),
    "multiplies values that are not selected": fixed(
        multiplies_all_values, "NaN in other blocks", "not finite", only=True
    ),
    "writes nothing where no row has a block": fixed(
        kernel(output=unwritten_without_blocks), "no blocks", "not finite", only=True
    ),
    "makes half a split of single tokens": fixed(kernel(output=half_of_single_tokens), "single tokens", only=True),
    "takes the first sequence for the longest": fixed(kernel(given=as_long_as_the_first), "unlike lengths", only=True),
    "drops a token where the last block lacks one": fixed(
        kernel(given=without_the_token_before_a_border), "borders of blocks", only=True
    ),
    "skips the last blocks where all have one token": fixed(
        kernel(given=without_a_last_block_of_one), "one token in the last block", only=True
    ),
    "keeps partial results of a larger call": state_of(KeepsPartialResults, "large before small"),
    "keeps the workspace of its first call": state_of(SizedByItsFirstCall, "small before large"),
    "has one buffer for its outputs": state_of(OneBuffer, "two outputs held"),
}
