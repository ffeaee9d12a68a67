"""The list of corner cases, by the names that the record has (docs/kernel_check.md#corner-cases)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from nsa.bench.check.corners import calls, lengths, sizes, values
from nsa.bench.check.corners.draw import Draw, Drawn, Sizes

DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        draw: its calls, made one after the other.
        taken: whether a kernel that takes the grid must take it, too: its sizes and strides are like the grid's.
        held: whether no output is looked at before the last call is made.
        memory_bytes: that it needs on a GPU beyond what any case needs.
    """

    draw: Callable[[Draw], Sequence[Drawn]]
    taken: bool = False
    held: bool = False
    memory_bytes: int = 0


def _ragged(sizes: Sizes, draw: Draw) -> list[Drawn]:
    return [draw.ragged(**sizes)]


def _odd_count(draw: Draw) -> list[Drawn]:
    return [draw.ragged(sel_count=draw.random.choice(sizes.ODD_COUNTS))]


def _one_sequence(draw: Draw) -> list[Drawn]:
    return [draw.ragged(batch=1)]


OF_SIZES: dict[str, Case] = {
    **{f"h = {h}": Case(partial(_ragged, Sizes(heads_per_group=h))) for h in (1, 3, 5, 16)},
    "one group": Case(partial(_ragged, Sizes(groups=1))),
    "two groups": Case(partial(_ragged, Sizes(groups=2))),
    "one sequence": Case(_one_sequence),
    "blocks of 16": Case(partial(_ragged, Sizes(sel_block=16))),
    "blocks of 128": Case(partial(_ragged, Sizes(sel_block=128))),
    "n = 1": Case(partial(_ragged, Sizes(sel_count=1))),
    "odd n": Case(_odd_count),
    "D < Dv": Case(sizes.wider_values),
    "D > Dv": Case(sizes.wider_keys),
    "near the grid": Case(sizes.near_the_grid),
    "q strided": Case(sizes.strided_queries),
    "k and v strided": Case(sizes.strided_tokens),
    "v strided": Case(sizes.strided_values),
    "layout [B, S, G, D]": Case(sizes.tokens_before_groups),
    "large values in float16": Case(values.large_values),
    "more than 2^31 numbers": Case(sizes.many_numbers, memory_bytes=24 << 30),
    "blocks beyond 2^15": Case(sizes.many_blocks, memory_bytes=8 << 30),
}
OF_VALUES: dict[str, Case] = {
    "queries x 8 and x 30": Case(values.large_queries, taken=True),
    "tail of small probabilities": Case(values.tail, taken=True),
    "low scores": Case(values.low_scores, taken=True),
    "sink": Case(values.sink, taken=True),
    "equal queries": Case(values.equal_queries, taken=True),
    "equal keys": Case(values.equal_keys, taken=True),
    "equal scores": Case(values.equal_scores, taken=True),
    "equal values": Case(values.equal_values, taken=True),
}
OF_LENGTHS: dict[str, Case] = {
    "infinity beyond the lengths": Case(lengths.infinity_beyond, taken=True),
    "NaN in other blocks": Case(lengths.poison_between, taken=True),
    "no blocks": Case(lengths.no_blocks, taken=True),
    "single tokens": Case(lengths.single_tokens, taken=True),
    "unlike lengths": Case(lengths.unlike_lengths, taken=True),
    "borders of blocks": Case(lengths.borders_of_blocks, taken=True),
    "one token in the last block": Case(lengths.one_token_in_the_last_block, taken=True),
}
OF_CALLS: dict[str, Case] = {
    "large before small": Case(calls.large_before_small, taken=True),
    "small before large": Case(calls.small_before_large, taken=True),
    "two outputs held": Case(calls.two_calls, taken=True, held=True),
}


def cases(dtype: str) -> dict[str, Case]:
    """Every case of a run in one dtype, the other dtypes among them."""
    others = {f"in {other}": Case(partial(_ragged, Sizes(dtype=other))) for other in DTYPES if other != dtype}
    return OF_SIZES | others | OF_VALUES | OF_LENGTHS | OF_CALLS
