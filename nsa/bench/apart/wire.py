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

from nsa.bench.apart.arena import Place
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


class Request:
    """Something that is asked; those of one check are in its own module."""


@dataclass(frozen=True)
class Ping(Request):
    """Nothing."""


@dataclass(frozen=True)
class Segment(Request):
    """Memory of the judge, by its number; None where it is gone."""

    number: int
    tensor: torch.Tensor | None


@dataclass(frozen=True)
class Load(Request):
    """Load a backend: `entry` is "module:function", called as function(name, machine, flags) -> Backend."""

    entry: str
    name: str
    machine: Machine
    flags: Flags
    device: torch.device
    timed: bool  # with a CudaTimer; without one nothing is captured


@dataclass(frozen=True)
class Release(Request):
    """Give up all that is prepared, and the inputs."""


@dataclass(frozen=True)
class Prepare(Request):
    """Make what was loaded ready to be timed on the bound inputs, under a name."""

    name: str


@dataclass(frozen=True)
class Burst(Request):
    """Replay what is prepared so often on one query, all without a pause. -> for each output None, or its odd shape
    and dtype.
    """

    name: str
    q: Place  # [1, B, G, h, D]
    outputs: tuple[Place, ...]  # [1, ...], of the last replay
    each: int


@dataclass(frozen=True)
class PrepareSteps(Request):
    """Capture a call on each of these queries, and copies of what each gives, as one graph."""

    q: Place  # [C, B, G, h, D]
    outputs: tuple[Place, ...]  # [C, ...]


@dataclass(frozen=True)
class TakeSteps(Request):
    """Replay that graph once. -> for each output None, or its odd shape and dtype."""


@dataclass(frozen=True)
class About(Request):
    """-> what the backend notes, and which of torch's switches are no longer as they were before it was loaded."""


def answer(value: JsonValue) -> bytes:
    """An answer in bytes."""
    return json.dumps({"value": value}).encode()


def refusal(name: str, error: BaseException) -> bytes:
    """An error in bytes: one of KINDS as it is, anything else as the failure of the backend of this name.

    `goes_on` says whether it has a cause that leaves the device usable.
    """
    kind = next((each.__name__ for each in type(error).__mro__ if KINDS.get(each.__name__) is each), None)
    if kind is None:
        error = failure(name, error)
        kind = type(error).__name__
    said = [str(each) for each in error.args]
    text = "".join(traceback.format_exception(error))[-LONGEST:]
    cause = error.__cause__
    goes_on = cause is not None and not isinstance(cause, torch.AcceleratorError)
    return json.dumps({"kind": kind, "said": said, "text": text, "goes_on": goes_on}).encode()


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
    if found.get("goes_on") is True:
        refused.__cause__ = RuntimeError(f"{name}: see what its process says")
    refused.add_note(f"in the candidate's process:\n{text}")
    raise refused


def no_answer(name: str) -> KernelFailed:
    """The process says something that its harness does not say."""
    return KernelFailed(f"{name}: its process gave an answer that is none")
