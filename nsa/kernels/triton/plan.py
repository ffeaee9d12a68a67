"""The launch configuration of a call: as the tuning stage measured it for its size and device, or by a rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from nsa.kernels.tiles import padded

MAX_SPLITS = 64  # a combination holds them all at once
FLIGHT_BYTES = 60 << 10  # of K and V that one processor must have on their way to reach the memory's bandwidth
WARP_BYTES = 4 << 10  # of a step's K and V that one warp works on
MOST_WARPS = 8
PREFETCH_STEPS = 4  # of a program: in fewer, what is loaded ahead comes too late to matter


@dataclass(frozen=True)
class Size:
    """What the best launch configuration depends on; N = rows = B·G."""

    rows: int
    heads: int  # h
    count: int  # n
    block: int  # l'
    head_dim: int  # D
    value_dim: int  # Dv
    itemsize: int  # bytes of a number
    processors: int  # streaming multiprocessors of the device

    @property
    def token_bytes(self) -> int:
        """Bytes of K and V of one token, padded to powers of two as registers hold them."""
        return (padded(self.head_dim) + padded(self.value_dim)) * self.itemsize


@dataclass(frozen=True)
class LaunchConfig:
    """Programs of `warps` warps take `tokens` tokens a step, and each row is split over `splits` of them."""

    tokens: int
    warps: int
    splits: int
    prefetch: bool  # the next step's K and V are loaded while this one's are used


def steps(size: Size, tokens: int) -> int:
    """Steps of `tokens` tokens over the n·l' of a row; at least one, so that an empty row is written too."""
    return max(1, -(-size.count * size.block // tokens))


def rule(size: Size) -> LaunchConfig:
    """The configuration for any size. Many rows take short steps: more programs then fit on a processor."""
    crowded = size.rows * 64 * size.token_bytes >= 2 * FLIGHT_BYTES * size.processors
    return _by_tokens(size, 32 if crowded else 64)


def candidates(size: Size) -> Iterator[LaunchConfig]:
    """The rule's configuration first, then its neighbours: what the tuning stage tries."""
    best = rule(size)
    tried = {best: None}
    for tokens in (32, 64):
        config = _by_tokens(size, tokens)
        other = 2 * config.warps if config.warps < MOST_WARPS else config.warps // 2
        for warps, prefetch in product((config.warps, other), (False, True)):
            if not (prefetch and config.splits == steps(size, config.tokens)):  # there is a next step to load
                tried[replace(config, warps=warps, prefetch=prefetch)] = None
    yield from tried


def _by_tokens(size: Size, tokens: int) -> LaunchConfig:
    """Steps of at most `tokens` tokens, and as few splits as keep enough bytes on their way on every processor.

    A combination costs a launch and the partial results' traffic, so that many rows are not split.
    """
    while tokens * size.token_bytes > 2 * WARP_BYTES * MOST_WARPS and tokens > 16:
        tokens //= 2
    step_bytes = tokens * size.token_bytes
    most, splits = min(MAX_SPLITS, steps(size, tokens)), 1
    while size.rows * splits * step_bytes < FLIGHT_BYTES * size.processors and splits < most:
        splits = min(2 * splits, most)
    warps = 2
    while warps < MOST_WARPS and 2 * warps * WARP_BYTES <= step_bytes:
        warps *= 2
    return LaunchConfig(tokens, warps, splits, prefetch=steps(size, tokens) >= PREFETCH_STEPS * splits)
