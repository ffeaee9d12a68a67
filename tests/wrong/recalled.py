"""Corner cases whose inputs and right outputs are kept from one trial to the next, as each kernel is tried on the same.

Each trial has inputs of its own: copies, of the same strides, in memory of their own. A right output, and
packed SDPA's, is kept by the bytes of the inputs that it is of, so that a kernel that changes its inputs is judged by
what it left of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch

from nsa.bench.check.corners import judge
from nsa.bench.check.corners.cases import Case, cases
from nsa.bench.check.corners.draw import Draw, Drawn
from nsa.bench.method.accuracy import selected_oracle
from nsa.bench.method.failures import guarded
from nsa.bench.method.inputs import Call
from nsa.kernels.contract import SelectAttention
from nsa.records.shapes import CheckShape
from nsa.records.words import PACKED

TENSORS = Call._fields[:5]
LARGE_BYTES = 1 << 22
_drawn: dict[tuple[CheckShape, int, str], Sequence[Drawn]] = {}
_kept: dict[Hashable, tuple[torch.dtype, tuple[int, ...], bytes]] = {}  # bytes: no tensor that a kernel could look for


@contextmanager
def recalled(seed: int, only: Collection[str] | None = None) -> Iterator[None]:
    """While inside, a CPU's corner cases are drawn and computed once for each seed.

    Args:
        seed: of what is drawn.
        only: the cases that are tried, by name; None for all.
    """

    def listed(dtype: str) -> dict[str, Case]:
        every = cases(dtype)
        names = every if only is None else [name for name in every if name in only]
        return {name: replace(every[name], draw=partial(_draw, seed, name, every[name].draw)) for name in names}

    with ExitStack() as stack:
        stack.enter_context(patch.object(judge, "cases", listed))
        stack.enter_context(patch.object(judge, "selected_oracle", partial(_computed, "oracle", selected_oracle)))
        stack.enter_context(patch.object(judge, "guarded", _guarded))
        yield


def _draw(seed: int, name: str, right: Callable[[Draw], Sequence[Drawn]], draw: Draw) -> Sequence[Drawn]:
    key = (draw.base, seed, name)
    if key not in _drawn:
        drawn = right(draw)
        if any(_large(one.call) for one in drawn):
            return drawn
        _drawn[key] = drawn
    return [one.changed(**{name: _copied(getattr(one.call, name)) for name in TENSORS}) for one in _drawn[key]]


def _large(call: Call) -> bool:
    """Whether copies of the inputs would take longer than new ones, most of which are never written."""
    return any(getattr(call, name).untyped_storage().nbytes() > LARGE_BYTES for name in TENSORS)


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, and what lies between them, in the same layout: a token may stand for all of its row."""
    copy = torch.empty(0, dtype=tensor.dtype)
    return copy.set_(tensor.untyped_storage().clone(), tensor.storage_offset(), tensor.shape, tensor.stride())


def _guarded(name: str, kernel: SelectAttention) -> SelectAttention:
    """As nsa.bench.method.failures.guarded, and packed SDPA, which every kernel is held against, computes once."""
    calls = guarded(name, kernel)
    return calls if name != PACKED else lambda *call: _computed(name, lambda call: calls(*call), Call(*call))


def _computed(name: str, compute: Callable[[Call], torch.Tensor], call: Call) -> torch.Tensor:
    if _large(call):
        return compute(call)
    key = (name, *(part for tensor in TENSORS for part in _content(getattr(call, tensor))))
    if key not in _kept:
        output = compute(call).contiguous()
        _kept[key] = output.dtype, tuple(output.shape), output.view(torch.uint8).numpy().tobytes()
    dtype, shape, data = _kept[key]
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(shape)


def _content(tensor: torch.Tensor) -> tuple[Hashable, ...]:
    """What tells one tensor from another."""
    memory = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).numpy()
    return tensor.dtype, tensor.storage_offset(), tensor.shape, tensor.stride(), zlib.crc32(memory)
