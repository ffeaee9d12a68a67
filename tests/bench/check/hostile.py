"""Backends for the candidate's process: right ones, wrong ones, and those that attack the harness around them.

Each is what a `load` of a backend's spec is; only the process that loads a backend imports this.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from bench.check.simulated import mine
from standins import Timer

from nsa.bench.apart import server, wire
from nsa.bench.check import candidate
from nsa.bench.method import accuracy, behaviour, kernels
from nsa.errors import InputError
from nsa.kernels.contract import Backend
from nsa.records import files, parquet

server.CudaTimer = Timer  # this process, too, has no GPU


class Refused(InputError):
    """An error whose class only this module has."""


def loads(kernel: Callable[..., object], **further: Any) -> Callable[..., Backend]:
    """A backend of one kernel."""
    return lambda name, machine, flags: Backend(name, kernel, **further)


def zeros(*arguments: Any) -> torch.Tensor:
    """What a kernel that hopes for a broken judge returns."""
    return torch.zeros_like(mine(*arguments))


def patches_the_judges_functions(name: str, machine: object, flags: object) -> Backend:
    """Every error is 0 and every output right, as far as this process goes."""
    for module in (accuracy, kernels):
        for judge in ("worst_row_error", "mean_absolute_error"):
            setattr(module, judge, lambda *_: 0.0)
        module.selected_oracle = zeros
    accuracy.oracle, accuracy.fault = zeros, lambda *_: None
    behaviour.same_bits = accuracy.same_bits = lambda *_: True
    return Backend(name, zeros)


def patches_the_records(name: str, machine: object, flags: object) -> Backend:
    """No record is written, as far as this process goes."""
    files.write_text = files.write_model = parquet.write = lambda *_: None
    return Backend(name, zeros)


def patches_the_clock(name: str, machine: object, flags: object) -> Backend:
    """Every replay takes a nanosecond, and none is made while it is timed."""

    class Fast(Timer):
        def time(self, *arguments: Any) -> list[int]:
            super().time(*arguments)
            return [1] * arguments[3]

    server.CudaTimer = Fast
    torch.cuda.Event.elapsed_time = lambda *_: 0.0
    return Backend(name, mine)


def skips_the_burst(name: str, machine: object, flags: object) -> Backend:
    """Replays are made while they are timed one by one, and not without a pause."""
    candidate.Candidate.prepared = lambda *_: (lambda: None, lambda: [torch.zeros(2, 2, 2, 32)])
    candidate.Candidate.call = lambda *_: lambda: [torch.zeros(2, 2, 2, 32)]
    return Backend(name, mine)


def switches_torch(name: str, machine: object, flags: object) -> Backend:
    """Determinism at import, and math SDPA alone at the first call: the baseline would be slow and inexact."""
    torch.use_deterministic_algorithms(True)

    def kernel(*arguments: Any) -> torch.Tensor:
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        return mine(*arguments)

    return Backend(name, kernel)


def answers_nonsense(name: str, machine: object, flags: object) -> Backend:
    """The answers are no answers."""
    wire.answer = lambda value: b'{"value": {"ns": "soon"}}'
    return Backend(name, mine)


def exits(name: str, machine: object, flags: object) -> Backend:
    os._exit(7)


def raises_its_own(name: str, machine: object, flags: object) -> Backend:
    raise Refused("not today")


def on_another_device(*arguments: Any) -> torch.Tensor:
    return mine(*arguments).to("meta")


def of_another_shape(*arguments: Any) -> torch.Tensor:
    return mine(*arguments)[:, :1]


def of_another_dtype(*arguments: Any) -> torch.Tensor:
    return mine(*arguments).double()


def changes_a_value(*arguments: Any) -> torch.Tensor:
    output = mine(*arguments)
    arguments[2][-1, -1, -1, -1] = 3.0
    return output


def sets_lengths_when_replayed() -> Callable[..., torch.Tensor]:
    """Right, and its inputs untouched, until it was called some times on the same addresses: then it shortens rows."""
    calls: dict[int, int] = {}

    def kernel(*arguments: Any) -> torch.Tensor:
        output, key = mine(*arguments), arguments[0].shape[0] * 1000 + arguments[2].shape[3]
        calls[key] = calls.get(key, 0) + 1
        if calls[key] > 18:
            arguments[4].clamp_(max=1)
        return output

    return kernel


def one_buffer() -> Callable[..., torch.Tensor]:
    """Every output is the same tensor."""
    buffers: dict[torch.Size, torch.Tensor] = {}

    def kernel(*arguments: Any) -> torch.Tensor:
        output = mine(*arguments)
        return buffers.setdefault(output.shape, output).copy_(output)

    return kernel


def spoils_what_it_returned() -> Callable[..., torch.Tensor]:
    """Every output is right until the next call."""
    last: list[torch.Tensor] = []

    def kernel(*arguments: Any) -> torch.Tensor:
        for output in last:
            output.fill_(torch.nan)
        last[:] = [mine(*arguments)]
        return last[0]

    return kernel


def dies_after(calls: int) -> Callable[..., torch.Tensor]:
    """The process ends in one of its calls."""
    left = [calls]

    def kernel(*arguments: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
        return mine(*arguments)

    return kernel


def refuses_later() -> Callable[..., torch.Tensor]:
    """It takes a call and refuses the next one."""
    left = [1]

    def kernel(*arguments: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise Refused("no more")
        return mine(*arguments)

    return kernel


def writes_its_strides(*arguments: Any) -> torch.Tensor:
    """Some strides of q, k and the indices, as an output."""
    q, k, _, indices, *_ = arguments
    output = mine(*arguments)
    output[0, 0, 0, :7] = torch.tensor([*q.stride()[2:], *k.stride()[:3], *indices.stride()[:2]])
    return output


def refuses_odd_batches(*arguments: Any) -> torch.Tensor:
    if arguments[0].shape[0] % 2:
        raise Refused("no odd batch")
    return mine(*arguments)


def writes_one_head(*arguments: Any) -> torch.Tensor:
    q, _, v, *_ = arguments
    output = torch.empty(*q.shape[:3], v.shape[3], dtype=q.dtype)
    output[:, :, :1] = mine(*arguments)[:, :, :1]
    return output


def what_the_judge_left() -> list[str]:
    """The judge's own modules, where this process was forked from it."""
    return [name for name in sys.modules if name.endswith("check.test_isolation")]


def never_returns(*arguments: Any) -> torch.Tensor:
    time.sleep(600)
    raise AssertionError


right = loads(mine, notes=lambda: [{"way": "packed"}])
looks_around = loads(mine, notes=what_the_judge_left)
dies = loads(dies_after(3))
hangs = loads(never_returns)
meta = loads(on_another_device)
short = loads(of_another_shape)
double = loads(of_another_dtype)
mutates = loads(changes_a_value)
shortens = loads(sets_lengths_when_replayed())
static = loads(one_buffer())
spoils = loads(spoils_what_it_returned())
fickle = loads(refuses_later())
strides = loads(writes_its_strides)
picky = loads(refuses_odd_batches)
unwritten = loads(writes_one_head)
