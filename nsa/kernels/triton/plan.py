"""How a call is cut into programs: by a rule, or as `tune` measured it once and froze it for a device."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

from nsa import records
from nsa.errors import RecordError

CACHE = Path.home() / ".cache" / "nsa-bench" / "triton_plans.json"
THREAD_BYTES = 256  # of K and V that one thread holds in registers
MAX_SPLITS = 64  # a combination holds them all at once
FLIGHT_BYTES = 60 << 10  # of K and V that one processor must have on their way to reach the memory's bandwidth


@dataclass(frozen=True)
class Size:
    """What the best cut depends on; N = rows = B·G."""

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
class Plan:
    """One cut: programs of `warps` warps take `tokens` tokens a step, and each row is split over `splits` of them."""

    tokens: int
    warps: int
    splits: int
    prefetch: bool  # the next step's K and V are loaded while this one's are used


def padded(width: int) -> int:
    """The power of two, at least the 16 of a matrix instruction, that a dimension is padded to."""
    return max(16, 1 << (width - 1).bit_length())


def steps(size: Size, tokens: int) -> int:
    """Steps of `tokens` tokens over the n·l' of a row; at least one, so that an empty row is written too."""
    return max(1, -(-size.count * size.block // tokens))


def rule(size: Size) -> Plan:
    """The cut for any size: as few splits as keep enough bytes on their way on every processor.

    A combination costs a launch and the partial results' traffic, so that many rows are not split. Programs that are
    alone on their processor load ahead; where others fill the wait, that would only cost registers.
    """
    tokens, warps = 64, 4
    while tokens * size.token_bytes > THREAD_BYTES * 32 * warps and tokens > 16:
        tokens, warps = (tokens, 8) if warps < 8 else (tokens // 2, 8)
    wanted = FLIGHT_BYTES * size.processors
    program_bytes = tokens * size.token_bytes
    most = min(MAX_SPLITS, steps(size, tokens))
    splits = 1
    while size.rows * splits * program_bytes < wanted and splits < most:
        splits = min(2 * splits, most)
    alone = size.rows * splits * program_bytes < 2 * wanted
    return Plan(tokens, warps, splits, prefetch=alone and steps(size, tokens) > splits)


def candidates(size: Size) -> Iterator[Plan]:
    """The rule's cut first, then its neighbours: what `tune` tries."""
    best = rule(size)
    yield best
    shapes = [(best.tokens, best.warps), (best.tokens, 12 - best.warps), (best.tokens // 2, best.warps)]
    for (tokens, warps), halves, prefetch in product(shapes, (1, 2, 4), (False, True)):
        splits = best.splits * halves // 2
        plan = Plan(tokens, warps, splits, prefetch)
        possible = tokens >= 16 and 1 <= splits <= min(MAX_SPLITS, steps(size, tokens))
        if plan != best and possible and not (prefetch and splits == steps(size, tokens)):
            yield plan


def choose(size: Size, device: str) -> Plan:
    """The frozen cut of this size on this device, else the rule's; `device` names it and its software."""
    return frozen().get(_key(size, device)) or rule(size)


def freeze(size: Size, device: str, plan: Plan) -> None:
    """Keep a measured cut in CACHE: this process and later ones choose it."""
    known = {**_read(), _key(size, device): asdict(plan)}
    records.write_text(CACHE, json.dumps(known, indent=1, sort_keys=True) + "\n")
    frozen.cache_clear()


@functools.cache
def frozen() -> dict[str, Plan]:
    """Every frozen cut, read once a process: nothing changes it between a warm-up and what is timed.

    Raises:
        RecordError: CACHE is not what `freeze` wrote.
    """
    try:
        return {key: Plan(**fields) for key, fields in _read().items()}
    except (TypeError, AttributeError) as error:
        raise RecordError(f"{CACHE}: holds no plans ({error}); delete it") from error


def _read() -> dict[str, Any]:
    return records.read_json(CACHE) if CACHE.exists() else {}


def _key(size: Size, device: str) -> str:
    return f"{device}, {size}"
