"""What the judge of a core check asks of the candidate's process, beside what every judge asks; nothing is answered
but times and, of a burst, that its two outputs are there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from nsa.bench.apart.arena import Arena, Place, Segments, bytes_of
from nsa.bench.apart.wire import Request
from nsa.bench.core.inputs import CoreCall
from nsa.kernels.core import Parts, Sizes

Outputs = tuple[Place, Place]  # where an output and the chosen blocks go: [B, G, h, Dv] and [B, G, n]


@dataclass(frozen=True)
class Placed:
    """The inputs of a call, in memory that both see; `tensors` are those of `flat`."""

    tensors: tuple[Place, ...]
    sizes: Sizes
    parts: Parts

    @classmethod
    def of(cls, call: CoreCall, arena: Arena) -> Self:
        """A copy of a call."""
        arena.room(bytes_of(flat(call)))
        places = tuple(arena.place(tensor) for tensor in flat(call))
        return cls(places, call.sizes, call.parts)

    def view(self, segments: Segments) -> CoreCall:
        """The call, as it is there."""
        q, gates, *caches, k_cmp, v_cmp, seq_lens, blocks = (place.view(segments) for place in self.tensors)
        half = len(caches) // 2
        k, v = (caches[0], caches[1]) if half == 1 else (caches[:half], caches[half:])
        return CoreCall(q, gates, k, v, k_cmp, v_cmp, seq_lens, self.sizes, self.parts, blocks)


def flat(call: CoreCall) -> list[torch.Tensor]:
    """The tensors of a call, in the order of its arguments: a cache is one or its branches' three."""
    k, v = ([cache] if isinstance(cache, torch.Tensor) else [*cache] for cache in (call.k, call.v))
    return [call.q, call.gates, *k, *v, call.k_cmp, call.v_cmp, call.seq_lens, call.block_indices]


@dataclass(frozen=True)
class Bind(Request):
    """Take these inputs for all that follows, until Release; a call itself only within one process."""

    call: Placed | CoreCall


@dataclass(frozen=True)
class Once(Request):
    """Call the core once on the inputs as they are, into poisoned memory."""

    outputs: Outputs


@dataclass(frozen=True)
class Replay(Request):
    """Replay what is prepared on the inputs as they are, into poisoned memory."""

    name: str
    outputs: Outputs


@dataclass(frozen=True)
class Time(Request):
    """Time one cold replay for each of C inputs. -> nanoseconds of each."""

    name: str
    places: tuple[Place, ...]  # where in the caches tokens are new, see nsa.bench.core.replays.Changes
    new: tuple[Place, ...]  # what it writes there, [C, ...] each
    outputs: Outputs  # [C, ...]
