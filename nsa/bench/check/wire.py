"""What the judge of a kernel check asks of the candidate's process, beside what every judge asks."""

from __future__ import annotations

from dataclasses import dataclass

from nsa.bench.apart.arena import Place, Segments
from nsa.bench.apart.wire import Request
from nsa.bench.method.inputs import Call


@dataclass(frozen=True)
class Placed:
    """The inputs of a call, in shared memory."""

    tensors: tuple[Place, ...]
    block_size: int

    def view(self, segments: Segments) -> Call:
        """The call."""
        q, k, v, block_indices, seq_lens = (place.view(segments) for place in self.tensors)
        return Call(q, k, v, block_indices, seq_lens, self.block_size)


@dataclass(frozen=True)
class Calls(Request):
    """Make some calls, then copy their outputs. -> for each None, or the odd shape and dtype of what is no output."""

    calls: tuple[Placed, ...]
    outputs: tuple[Place, ...]
    taken: bool  # such a call was taken before


@dataclass(frozen=True)
class Launched(Request):
    """-> the names of what a call launches."""

    call: Placed


@dataclass(frozen=True)
class Bind(Request):
    """Take these inputs for all that is prepared until Release."""

    call: Placed
    changed: tuple[int, ...]  # rows of which a token changes in a replay


@dataclass(frozen=True)
class Replay(Request):
    """Replay what is prepared on the bound inputs, which the judge has just written. -> as Calls, of one output."""

    name: str
    output: Place


@dataclass(frozen=True)
class Block:
    """The inputs of a block's replays: queries [C, B, G, h, D], tokens [C, R], their keys and values [C, R, ...]."""

    q: Place
    token: Place
    k: Place
    v: Place


@dataclass(frozen=True)
class Time(Request):
    """Time one cold replay on each of a block's inputs. -> nanoseconds of each, and as Calls, of one output."""

    name: str
    block: Block
    outputs: Place  # [C, B, G, h, Dv]
