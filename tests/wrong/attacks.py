"""Candidates that change the process they are loaded in: the check must judge them from another one.

Each function is an entry point with the signature of nsa.kernels.registry.load: it does its harm when it is called, as
an imported backend would, and returns a kernel that could only pass where the harm reaches whoever judges.
"""

from __future__ import annotations

import gc
import os

import torch
from wrong.attack import Attack
from wrong.attacks_times import TIME_ATTACKS
from wrong.kernels import kernel, right

from nsa.bench.method.inputs import Call
from nsa.config import Flags
from nsa.kernels.contract import Backend, SelectAttention
from nsa.machine.host import Machine


def zeros(*arguments: object) -> torch.Tensor:
    return torch.zeros_like(right(*arguments))


def unwritten(*arguments: object) -> torch.Tensor:
    call = Call(*arguments)
    return torch.full((*call.q.shape[:3], call.v.shape[3]), torch.nan, dtype=call.q.dtype, device=call.q.device)


def noisy(call: Call, o: torch.Tensor) -> torch.Tensor:
    return (o * (1 + 1e-5 * torch.randn_like(o))).to(call.q.dtype)


sharper: SelectAttention = kernel(scores=lambda s: 1.01 * s)


def replaces_the_error(name: str, machine: Machine, flags: Flags) -> Backend:
    from nsa.bench.method import accuracy, kernels, replays

    for module in (accuracy, kernels):
        module.worst_row_error = lambda *_: 0.0
        module.mean_absolute_error = lambda *_: 0.0
    replays.Judge.worst = lambda *_: 0.0
    return Backend(name, zeros)


def replaces_the_oracle(name: str, machine: Machine, flags: Flags) -> Backend:
    from nsa.bench.check import correctness, replicate
    from nsa.bench.method import accuracy, kernels

    for module in (accuracy, kernels, correctness, replicate):
        module.selected_oracle = lambda call: zeros(*call).double()
    accuracy.oracle = correctness.oracle = lambda call: zeros(*call).double()
    return Backend(name, zeros)


def replaces_the_record(name: str, machine: Machine, flags: Flags) -> Backend:
    from nsa.records import parquet

    write = parquet.write

    def cleaned(path: object, rows: object, schema: object, header: object) -> None:
        write(path, [{**row, "fault": None, "oracle_error": 0.0, "mae": 0.0} for row in rows], schema, header)

    parquet.write = cleaned
    return Backend(name, zeros)


def patches_equality(name: str, machine: Machine, flags: Flags) -> Backend:
    torch.equal = lambda *_: True
    torch.allclose = lambda *_, **__: True
    return Backend(name, kernel(output=noisy))


def patches_isfinite(name: str, machine: Machine, flags: Flags) -> Backend:
    torch.Tensor.isfinite = lambda tensor: torch.ones_like(tensor, dtype=torch.bool)
    torch.Tensor.isnan = lambda tensor: torch.zeros_like(tensor, dtype=torch.bool)
    return Backend(name, unwritten)


def patches_norms(name: str, machine: Machine, flags: Flags) -> Backend:
    torch.Tensor.norm = lambda tensor, *_, dim=-1, **__: tensor.new_full(tensor.shape[:-1], 1e-9)
    return Backend(name, zeros)


def spoils_the_baseline(name: str, machine: Machine, flags: Flags) -> Backend:
    """Packed SDPA that is itself off by a per cent allows an error of two."""
    attend = torch.nn.functional.scaled_dot_product_attention
    torch.nn.functional.scaled_dot_product_attention = lambda q, *rest, **options: attend(1.01 * q, *rest, **options)
    return Backend(name, sharper)


def poisons_the_oracle(name: str, machine: Machine, flags: Flags) -> Backend:
    """Fills every float64 tensor that it finds with NaN: what is compared with NaN is not larger."""

    def attend(*arguments: object) -> torch.Tensor:
        for each in gc.get_objects():
            if type(each) is torch.Tensor and each.dtype == torch.float64:
                each.fill_(torch.nan)
        return zeros(*arguments)

    return Backend(name, attend)


def knows_the_draws(name: str, machine: Machine, flags: Flags) -> Backend:
    """Every generator has one seed from now on, so that one answer serves all."""

    class Fixed(torch.Generator):
        def manual_seed(self, _: int) -> torch.Generator:
            return super().manual_seed(0)

    torch.Generator = Fixed
    kept: dict[tuple[object, ...], torch.Tensor] = {}

    def attend(*arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        return kept.setdefault((call.q.shape, call.v.shape, call.block_size, call.q.dtype), right(*call)).clone()

    return Backend(name, attend)


def dies_when_it_is_judged(name: str, machine: Machine, flags: Flags) -> Backend:
    """Ends the process, with a status that says that all is well, before anything can be said of it."""
    calls: list[int] = []

    def attend(*arguments: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 3:
            os._exit(0)
        return right(*arguments)

    return Backend(name, attend)


ATTACKS: dict[str, Attack] = {
    "replaces the functions that measure errors": Attack(replaces_the_error, "fresh inputs"),
    "replaces the oracle": Attack(replaces_the_oracle, "fresh inputs"),
    "replaces what writes the record": Attack(replaces_the_record, "fresh inputs"),
    "patches torch.equal and torch.allclose": Attack(patches_equality, "same bits", "differ"),
    "patches isfinite and isnan": Attack(patches_isfinite, "first sight", "not finite"),
    "patches norms": Attack(patches_norms, "fresh inputs"),
    "makes packed SDPA as wrong as itself": Attack(spoils_the_baseline, "queries x 8 and x 30"),
    "fills the oracle's tensors with NaN": Attack(poisons_the_oracle, "fresh inputs"),
    "gives every generator one seed": Attack(knows_the_draws, "fresh inputs"),
    "ends its process when it is judged": Attack(dies_when_it_is_judged, "runs", "process died"),
} | TIME_ATTACKS
