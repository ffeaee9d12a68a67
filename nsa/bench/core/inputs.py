"""Inputs of decode cores, written in place from a seed.

Keys are not only white noise. In real caches a text's tokens come in runs of one topic, and the first ones are
attention sinks: blocks then differ in importance by far more than rounding, and lie side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from nsa.kernels.core import EVERY_PART, SEL, WIN, Cache, Parts, Sizes
from nsa.records.shapes import CoreShape

QUERY = 1.5  # standard deviation of a query's numbers
TOPICS, RUN_TOKENS, TOPIC = 16, 128, 0.5  # directions, tokens of one run, and the amplitude of a topic in queries, keys
SINKS, SINK_QUERY, SINK_KEY = 4, 0.5, 1.5  # tokens in front, and what queries and their keys have of one direction
LOW, TAIL = "low", "tail"  # more ways to draw keys, of corner cases
LOW_SCORE, LOW_QUERY = -120.0, 2.0  # about every score with keys that are opposite to the queries; amplitude in these
TAIL_TOKENS, TAIL_SCORE = 480, 11.5  # one token of so many has nearly all of the weight, by this score, and no value
NUMBERS = "numbers"  # beyond the lengths, in place of NaN or infinity
LARGE = 8.0  # times as large are those
SMALL, WHOLE = "small", "whole"  # more ways to draw gates: close to 0, and 0 or 1
SMALL_GATE = 2.0**-10  # as large as others are those that are small
POISON = -7  # of block indices before a call


class CoreCall(NamedTuple):
    """The arguments of nsa.kernels.core.Core in its order, without `out`."""

    q: torch.Tensor  # [B, G, h, D]
    gates: torch.Tensor  # [B, G, h, 3]
    k: Cache  # the branches' [B, G, S, D]; that of the compressed branch is not read
    v: Cache  # [B, G, S, Dv] each
    k_cmp: torch.Tensor  # [B, G, S_cmp, D]
    v_cmp: torch.Tensor  # [B, G, S_cmp, Dv]
    seq_lens: torch.Tensor  # [B] int32
    sizes: Sizes
    parts: Parts
    block_indices: torch.Tensor  # [B, G, n] int32

    def written(self) -> dict[str, torch.Tensor]:
        """The tensors that a draw fills, by name."""
        both = (("k", self.k), ("v", self.v))
        caches = {f"{name}[{branch}]": cache[branch] for branch in (SEL, WIN) for name, cache in both}
        return {"q": self.q, "gates": self.gates, **caches, "k_cmp": self.k_cmp, "v_cmp": self.v_cmp}

    def read(self) -> dict[str, torch.Tensor]:
        """All that a core may read, by name."""
        return {**self.written(), "seq_lens": self.seq_lens}

    def sequence(self, b: int) -> CoreCall:
        """The call of one sequence, as views."""
        some = slice(b, b + 1)
        return self._replace(
            k=[branch[some] for branch in self.k],
            v=[branch[some] for branch in self.v],
            seq_lens=self.seq_lens[some],
            block_indices=self.block_indices[some],
            **{name: getattr(self, name)[some] for name in ("q", "gates", "k_cmp", "v_cmp")},
        )


@dataclass(frozen=True)
class Draw:
    """What the tensors of a call hold: the same whenever it is written.

    Attributes:
        keys: one of nsa.records.words.KEYS, LOW or TAIL.
        seed: of every number.
        lengths: of the sequences.
        scale: of the queries, beside QUERY.
        alike: whether all compressed keys of a row are equal, and with them the importance of all inner blocks.
        beyond: what lies beyond the lengths: "nan", "inf" or NUMBERS.
        offset: of all values.
        gates: SMALL, WHOLE, or nothing for those of random numbers.
    """

    keys: str
    seed: int
    lengths: tuple[int, ...]
    scale: float = 1.0
    alike: bool = False
    beyond: str = "nan"
    offset: float = 0.0
    gates: str = ""


def sizes_of(shape: CoreShape) -> Sizes:
    """The sizes of a core that no tensor shows."""
    return Sizes(shape.cmp_block, shape.cmp_stride, shape.sel_block, shape.sel_count, shape.window)


def allocate(shape: CoreShape, device: torch.device) -> CoreCall:
    """The tensors of a call, with nothing in them; the raw keys and values of the compressed branch are NaN."""
    B, G, h, S = shape.batch, shape.groups, shape.heads_per_group, shape.context
    D, Dv, sizes = shape.head_dim, shape.value_dim, sizes_of(shape)
    dtype: torch.dtype = getattr(torch, shape.dtype)
    M = max(sizes.num_compressed(S), 1)

    def empty(*of: int) -> torch.Tensor:
        return torch.empty(*of, dtype=dtype, device=device)

    nan = torch.full((), torch.nan, dtype=dtype, device=device)
    return CoreCall(
        empty(B, G, h, D),
        empty(B, G, h, 3),
        (nan.expand(B, G, S, D), empty(B, G, S, D), empty(B, G, S, D)),
        (nan.expand(B, G, S, Dv), empty(B, G, S, Dv), empty(B, G, S, Dv)),
        empty(B, G, M, D),
        empty(B, G, M, Dv),
        torch.zeros(B, dtype=torch.int32, device=device),
        sizes,
        EVERY_PART,
        torch.full((B, G, shape.sel_count), POISON, dtype=torch.int32, device=device),
    )


def fill(call: CoreCall, draw: Draw, poisoned: torch.Tensor | None = None) -> None:
    """Write a draw into a call: lengths, queries, gates and caches, with what the draw has beyond the lengths.

    Args:
        poisoned: [B, G, S_blk], blocks of the selected branch's cache that hold NaN, too.
    """
    call.seq_lens.copy_(torch.tensor(draw.lengths, dtype=torch.int32))
    for name, tensor in call.written().items():
        _write(call, name, tensor, draw, poisoned)


def unselected(importance: torch.Tensor, lengths: tuple[int, ...], sizes: Sizes) -> torch.Tensor:
    """[B, G, S_blk]: blocks that no right core can select, whatever it rounds, from their importance in float64."""
    found = torch.zeros_like(importance, dtype=torch.bool)
    for b, S in enumerate(lengths):
        blocks = sizes.num_blocks(S)
        if blocks > sizes.sel_count:
            score = importance[b, :, :blocks].clone()
            score[:, [0, blocks - 2, blocks - 1]] = torch.inf
            last = score.topk(sizes.sel_count, -1).values[:, -1:]
            found[b, :, :blocks] = score < 0.99 * last
    return found


def _write(call: CoreCall, name: str, tensor: torch.Tensor, draw: Draw, poisoned: torch.Tensor | None) -> None:
    """Write what a draw has for one tensor; every tensor has a generator of its own."""
    place, stride = list(call.written()).index(name), call.sizes.cmp_stride if name.endswith("_cmp") else 1
    tensor.normal_(generator=torch.Generator(tensor.device).manual_seed(16 * draw.seed + place))
    if name == "q":
        tensor.mul_(QUERY * draw.scale)
        lean(tensor, draw)
    elif name == "gates":
        tensor.sigmoid_()
        if draw.gates == SMALL:
            tensor.mul_(SMALL_GATE)
        elif draw.gates == WHOLE:
            tensor.round_()
    elif name.startswith("k"):
        _keys(tensor, stride, draw)
        if name == "k_cmp" and draw.alike:
            tensor.copy_(tensor[:, :, :1].clone())
    if name in ("q", "gates"):
        return
    if name.startswith("v"):
        tensor.add_(draw.offset)
        if draw.keys == TAIL:
            _heavy(tensor, stride).zero_()
    if poisoned is not None and name.endswith(f"[{SEL}]"):
        tokens = poisoned.repeat_interleave(call.sizes.sel_block, -1)[..., : tensor.shape[2]]
        tensor.masked_fill_(tokens[..., None], torch.nan)
    for b, S in enumerate(draw.lengths):
        beyond = tensor[b, :, call.sizes.num_compressed(S) if name.endswith("_cmp") else S :]
        if draw.beyond == NUMBERS:
            beyond.mul_(LARGE)
        else:
            beyond.fill_(float(draw.beyond))


def _directions(draw: Draw, like: torch.Tensor) -> tuple[torch.Tensor, torch.Generator]:
    """Directions [TOPICS, D] of +1 and -1 that queries and keys share, and what else is drawn of them."""
    generator = torch.Generator().manual_seed(16 * draw.seed + 15)
    signs = torch.randint(2, (TOPICS, like.shape[-1]), generator=generator) * 2 - 1
    return signs.to(like), generator


def lean(q: torch.Tensor, draw: Draw) -> None:
    """Let queries favour one topic, or the sinks."""
    if draw.keys == "noise":
        return
    directions, generator = _directions(draw, q)
    if draw.keys == LOW:
        q.add_(LOW_QUERY * directions[0])
    elif draw.keys == "topics":
        mine = torch.randint(TOPICS, q.shape[:2], generator=generator).to(q.device)
        q.add_(TOPIC * directions[mine][:, :, None])
    else:
        q.add_(SINK_QUERY * directions[0])


def _keys(keys: torch.Tensor, stride: int, draw: Draw) -> None:
    """Give keys, one for every `stride` tokens, the topic of their run, or make the first ones sinks."""
    if draw.keys == "noise":
        return
    directions, generator = _directions(draw, keys)
    if draw.keys == "topics":
        generator.manual_seed(16 * draw.seed + 14)  # the same runs for every cache
        runs = torch.randint(TOPICS, (len(keys), -(-keys.shape[2] * stride // RUN_TOKENS)), generator=generator)
        token = torch.arange(keys.shape[2]) * stride // RUN_TOKENS
        for b in range(len(keys)):
            keys[b].add_(TOPIC * directions[runs[b, token].to(keys.device)])
    elif draw.keys == LOW:
        keys.add_(LOW_SCORE / LOW_QUERY / keys.shape[3] ** 0.5 * directions[0])
    elif draw.keys == TAIL:
        _heavy(keys, stride).copy_(TAIL_SCORE / SINK_QUERY / keys.shape[3] ** 0.5 * directions[0])
    else:
        keys[:, :, : max(1, SINKS // stride)] = SINK_KEY * directions[0]


def _heavy(cache: torch.Tensor, stride: int) -> torch.Tensor:
    """The tokens of a cache that have nearly all of the weight where keys are drawn as TAIL, as a view."""
    return cache[:, :, :: max(1, TAIL_TOKENS // stride)]
