"""Honest kernels that are wrong for some sizes, dtypes or strides, each seen by one corner case."""

from __future__ import annotations

import torch
from wrong.entry import Entry, fixed
from wrong.kernels import Tokens, kernel, right, twice, when

from nsa.bench.method.inputs import Call

unscaled = kernel(scale=lambda call: 1.0)


def last_head_from_the_one_before(call: Call, o: torch.Tensor) -> torch.Tensor:
    """The last head has the output of its neighbour."""
    return torch.cat((o[:, :, :-1], o[:, :, -2:-1]), 2).to(call.q.dtype)


def without_the_last_block(call: Call) -> Call:
    indices = call.block_indices.clone()
    indices[..., -1] = -1
    return call._replace(block_indices=indices)


def first_half_of_each_block(call: Call, tokens: Tokens) -> Tokens:
    offset = torch.arange(tokens.place.shape[-1], device=call.q.device) % call.block_size
    return tokens._replace(inside=tokens.inside & (offset < call.block_size // 2))


def zero_beyond_the_keys_width(call: Call, o: torch.Tensor) -> torch.Tensor:
    o = o.to(call.q.dtype)
    o[..., call.q.shape[-1] :] = 0
    return o


def keys_as_wide_as_values(call: Call, k: torch.Tensor) -> torch.Tensor:
    width = torch.arange(k.shape[-1], device=k.device) < call.v.shape[-1]
    return k * width


def laid_out(tensor: torch.Tensor, *strides: int) -> torch.Tensor:
    """The same memory read with other strides."""
    return tensor.as_strided(tensor.shape, strides, tensor.storage_offset())


def contiguous_strides(tensor: torch.Tensor) -> tuple[int, ...]:
    _, a, b, c = tensor.shape
    return a * b * c, b * c, c, 1


def q_is_contiguous(call: Call) -> Call:
    return call._replace(q=laid_out(call.q, *contiguous_strides(call.q)))


def tokens_apart_mean_groups_between(call: Call) -> Call:
    """Where k's tokens lie apart, the layout is taken for [B, S, G, D]."""
    if call.k.stride(2) in (0, call.k.shape[3]) or call.k.stride(1) == 0:
        return call
    _, G, S, _ = call.k.shape

    def read(cache: torch.Tensor) -> torch.Tensor:
        D = cache.shape[3]
        return laid_out(cache, S * G * D, D, G * D, 1)

    return call._replace(k=read(call.k), v=read(call.v))


def v_has_ks_strides(call: Call) -> Call:
    if call.k.shape != call.v.shape or call.k.stride() == call.v.stride():
        return call
    return call._replace(v=laid_out(call.v, *call.k.stride()))


def tokens_have_the_smaller_stride(call: Call) -> Call:
    def read(cache: torch.Tensor) -> torch.Tensor:
        strides = cache.stride()
        if 0 in strides:
            return cache
        return laid_out(cache, strides[0], max(strides[1:3]), min(strides[1:3]), 1)

    return call._replace(k=read(call.k), v=read(call.v))


def as_float16(call: Call) -> Call:
    """The bits of bfloat16 read as float16's; what is then no number is one."""
    q, k, v = (tensor.contiguous().view(torch.float16).nan_to_num() for tensor in call[:3])
    return call._replace(q=q, k=k, v=v)


def through_bfloat16(call: Call) -> Call:
    q, k, v = (tensor.bfloat16().float() for tensor in call[:3])
    return call._replace(q=q, k=k, v=v)


def of_heads(heads: int) -> object:
    return lambda call: call.q.shape[2] == heads


HONEST_SIZES: dict[str, Entry] = {
    "takes one head for none, and scales nothing": fixed(when(of_heads(1), unscaled), "h = 1", only=True),
    "pads three heads to four, and writes the padding": fixed(
        when(of_heads(3), kernel(output=last_head_from_the_one_before)), "h = 3", only=True
    ),
    "has no instance for five heads": fixed(when(of_heads(5), twice), "h = 5", only=True),
    "has a tile of fifteen heads": fixed(
        when(of_heads(16), kernel(output=last_head_from_the_one_before)), "h = 16", only=True
    ),
    "squeezes a single group away": fixed(when(lambda call: call.k.shape[1] == 1, unscaled), "one group", only=True),
    "reads the other one of two groups": fixed(
        when(
            lambda call: call.k.shape[1] == 2,
            kernel(given=lambda call: call._replace(k=call.k.flip(1), v=call.v.flip(1))),
        ),
        "two groups",
        only=True,
    ),
    "squeezes a batch of one away": fixed(when(lambda call: len(call.q) == 1, unscaled), "one sequence", only=True),
    "takes blocks of 16 for blocks of 32": fixed(
        when(
            lambda call: call.block_size == 16,
            kernel(tokens=lambda call, tokens: tokens._replace(place=tokens.place * 2)),
        ),
        "blocks of 16",
        "not finite",
        only=True,
    ),
    "takes blocks of 128 for blocks of 64": fixed(
        when(lambda call: call.block_size == 128, kernel(tokens=first_half_of_each_block)), "blocks of 128", only=True
    ),
    "prefetches a second block where there is one": fixed(
        when(lambda call: call.block_indices.shape[2] == 1, kernel(given=without_the_last_block)),
        "n = 1",
        only=True,
    ),
    "takes blocks in pairs from the last on": fixed(
        when(
            lambda call: call.block_indices.shape[2] % 2 == 1 and call.block_indices.shape[2] > 1,
            kernel(given=lambda call: call._replace(block_indices=call.block_indices[..., 1:])),
        ),
        "odd n",
        only=True,
    ),
    "has an output as wide as the keys": fixed(
        when(lambda call: call.q.shape[3] < call.v.shape[3], kernel(output=zero_beyond_the_keys_width)),
        "D < Dv",
        only=True,
    ),
    "reads keys as wide as the values": fixed(kernel(keys=keys_as_wide_as_values), "D > Dv", only=True),
    "takes q for contiguous": fixed(kernel(given=q_is_contiguous), "q strided", only=True),
    "takes tokens that lie apart for another layout": fixed(
        kernel(given=tokens_apart_mean_groups_between), "k and v strided", "not finite", only=True
    ),
    "takes v's strides for k's": fixed(kernel(given=v_has_ks_strides), "v strided", "not finite", only=True),
    "takes the smaller stride for the tokens'": fixed(
        kernel(given=tokens_have_the_smaller_stride), "layout [B, S, G, D]", only=True
    ),
    "counts numbers in 32 bits": fixed(
        when(lambda call: call.k.numel() > 2**31, twice), "more than 2^31 numbers", only=True
    ),
    "counts blocks in 16 bits": fixed(
        kernel(given=lambda call: call._replace(block_indices=call.block_indices.short().int())),
        "blocks beyond 2^15",
        only=True,
    ),
    "takes bfloat16 for float16": fixed(
        when(
            lambda call: call.q.dtype == torch.bfloat16,
            lambda *arguments: right(*as_float16(Call(*arguments))).bfloat16(),
        ),
        "in bfloat16",
        only=True,
    ),
    "rounds float32 for its matrix units": fixed(
        when(lambda call: call.q.dtype == torch.float32, kernel(given=through_bfloat16)), "in float32", only=True
    ),
    "scales by Dv in place of D": fixed(kernel(scale=lambda call: call.v.shape[-1] ** -0.5), "D < Dv"),
    "does without the root of D": fixed(kernel(scale=lambda call: 1 / call.q.shape[-1]), "fresh inputs"),
}
