"""What the judge asks of the candidate's process, and what comes back.

Requests are pickled: the candidate's process trusts the judge. Answers are JSON: to unpickle what that process says
would run its code, or import its modules, in the judge.
"""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass

import torch
from pydantic import JsonValue

from nsa.bench.check.arena import Place, Segments
from nsa.bench.method.inputs import Call
from nsa.config import Flags
from nsa.errors import (
    BackendUnavailable,
    ConfigError,
    Disturbed,
    InputError,
    KernelFailed,
    NoMemory,
    NoSharedMemory,
    RecordError,
)
from nsa.kernels.failures import BackendBroken, failure
from nsa.machine.host import Machine

KINDS = {
    kind.__name__: kind
    for kind in (BackendUnavailable, BackendBroken, KernelFailed, InputError, NoMemory, RecordError, ConfigError)
} | {Disturbed.__name__: Disturbed}
UNREADABLE = "unreadable"  # the kind of a request, and of no error that a candidate may raise
LONGEST = 20_000  # characters of a traceback
MAX_BYTES = 1 << 24  # of an answer


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
class Ping:
    """Nothing."""


@dataclass(frozen=True)
class Segment:
    """Memory of the judge, by its number; None where it is gone."""

    number: int
    tensor: torch.Tensor | None


@dataclass(frozen=True)
class Load:
    """Load a backend: `entry` is "module:function", called as function(name, machine, flags) -> Backend."""

    entry: str
    name: str
    machine: Machine
    flags: Flags
    device: torch.device
    timed: bool  # with a CudaTimer; without one nothing is captured


@dataclass(frozen=True)
class Calls:
    """Make some calls, then copy their outputs. -> for each None, or the odd shape and dtype of what is no output."""

    calls: tuple[Placed, ...]
    outputs: tuple[Place, ...]
    taken: bool  # such a call was taken before


@dataclass(frozen=True)
class Launched:
    """-> the names of what a call launches."""

    call: Placed


@dataclass(frozen=True)
class Bind:
    """Take these inputs for all that is prepared until Release."""

    call: Placed
    changed: tuple[int, ...]  # rows of which a token changes in a replay


@dataclass(frozen=True)
class Prepare:
    """Make the kernel ready to be timed on the bound inputs, under a name."""

    name: str


@dataclass(frozen=True)
class Replay:
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
class Time:
    """Time one cold replay on each of a block's inputs. -> nanoseconds of each, and as Calls, of one output."""

    name: str
    block: Block
    outputs: Place  # [C, B, G, h, Dv]


@dataclass(frozen=True)
class Burst:
    """Replay what is prepared so often on each of these queries, all without a pause. -> as Calls, of one output."""

    name: str
    q: Place  # [C, B, G, h, D]
    outputs: Place  # [C, B, G, h, Dv], of each query's last replay
    each: int


@dataclass(frozen=True)
class Release:
    """Give up all that is prepared, and the inputs."""


@dataclass(frozen=True)
class About:
    """-> what the backend notes, and which of torch's switches are no longer as they were before it was loaded."""


Request = Ping | Segment | Load | Calls | Launched | Bind | Prepare | Replay | Time | Burst | Release | About


def answer(value: JsonValue) -> bytes:
    """An answer in bytes."""
    return json.dumps({"value": value}).encode()


def refusal(name: str, error: BaseException) -> bytes:
    """An error in bytes: one of KINDS as it is, anything else as the failure of the backend of this name."""
    kind = next((each.__name__ for each in type(error).__mro__ if KINDS.get(each.__name__) is each), None)
    if kind is None:
        error = failure(name, error)
        kind = type(error).__name__
    said = [str(each) for each in error.args]
    text = "".join(traceback.format_exception(error))[-LONGEST:]
    return json.dumps({"kind": kind, "said": said, "text": text}).encode()


def unreadable(error: Exception) -> bytes:
    """Why a request could not be taken, in bytes: no fault of the candidate's."""
    text = "".join(traceback.format_exception(error))[-LONGEST:]
    said = traceback.format_exception_only(error)[0].strip()
    return json.dumps({"kind": UNREADABLE, "said": [said], "text": text}).encode()


def opened(name: str, data: bytes) -> JsonValue:
    """The value of an answer.

    Raises:
        Exception: what was refused, of one of KINDS.
        KernelFailed: it is no answer.
    """
    try:
        found = json.loads(data)
        if "value" in found:
            value: JsonValue = found["value"]
            return value
        kind = (KINDS | {UNREADABLE: NoSharedMemory})[found["kind"]]
        said, text = [str(each) for each in found["said"]], str(found["text"])
        refused = kind(*said)
    except (ValueError, TypeError, KeyError) as error:
        raise no_answer(name) from error
    refused.add_note(f"in the candidate's process:\n{text}")
    raise refused


def no_answer(name: str) -> KernelFailed:
    """The process says something that its harness does not say."""
    return KernelFailed(f"{name}: its process gave an answer that is none")
