"""Corner cases of one kernel: what it returned, judged; one row a call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch

from nsa.bench.check.corners.cases import Case, cases
from nsa.bench.check.corners.draw import Draw
from nsa.bench.method.accuracy import (
    fault,
    mean_absolute_error,
    same_bits,
    selected_oracle,
    worst_row_error,
)
from nsa.bench.method.failures import guarded
from nsa.bench.method.inputs import Call
from nsa.bench.method.remote import RemoteKernel, together
from nsa.errors import InputError, KernelFailed
from nsa.kernels.contract import SelectAttention
from nsa.records.shapes import CheckShape
from nsa.records.words import FAILED, PACKED, REFUSED, SKIPPED, Row, Scalar

POISONED = 4  # blocks of memory that were last full of NaN before a call, for kernels that ask for more than one
WATCHED_BYTES = 1 << 26  # of an input that is compared with a copy afterwards


def corner_rows(
    name: str, kernel: SelectAttention, packed: SelectAttention, base: CheckShape, seed: int, device: torch.device
) -> list[Row]:
    """Every corner case of a kernel, beside packed SDPA on the same inputs: rows of schemas.CHECK_REPETITIONS.

    Args:
        name: of the backend, which the rows are of.
        kernel: its kernel.
        packed: packed SDPA, whose error in the same dtype is allowed for.
        base: the first shape of the grid that the kernel takes.
        seed: of all that is drawn, and kept in the rows.
        device: of all tensors.

    Raises:
        KernelFailed: the device failed, or packed SDPA did: nothing can be said of any further case.
    """
    rows: list[Row] = []
    called = kernel if isinstance(kernel, RemoteKernel) else guarded(name, kernel)
    for each, case in cases(base.dtype).items():
        columns: Row = {"process": 0, "backend": name, "seed": seed, "case": each}
        if why := _no_memory(case, device):
            rows.append({**asdict(base), **columns, "fault": f"{SKIPPED}{why}"})
            continue
        drawn = case.draw(Draw(base, seed, each, device))
        try:
            outputs = _outputs(called, [one.call for one in drawn], case.held)
        except InputError as refusal:
            why = f"{'it takes the grid and refuses this call: ' if case.taken else REFUSED}{refusal}"
            rows.append({**asdict(drawn[0].shape), **columns, "fault": why})
            continue
        except KernelFailed as error:
            if error.__cause__ is None or isinstance(error.__cause__, torch.AcceleratorError):
                raise
            rows.append({**asdict(drawn[0].shape), **columns, "fault": f"{FAILED}{error}"})
            continue
        rows += [
            {**asdict(one.shape), **columns, **judged(one.call, output, found, guarded(PACKED, packed))}
            for one, (output, found) in zip(drawn, outputs, strict=True)
        ]
    return rows


def judged(call: Call, output: torch.Tensor, found: str | None, packed: SelectAttention) -> Row:
    """The errors and the fault of one output, and packed SDPA's error on the same call."""
    exact = selected_oracle(call)
    reference = packed(*call)
    row: dict[str, Scalar] = {"fault": found, "sdpa_oracle_error": worst_row_error(reference, exact)}
    if output.shape == exact.shape:
        row |= {"mae": mean_absolute_error(output, reference), "oracle_error": worst_row_error(output, exact)}
    return row


def _outputs(kernel: SelectAttention, calls: Sequence[Call], held: bool) -> list[tuple[torch.Tensor, str | None]]:
    """Copies of what the calls returned, made after each or after the last, and what is wrong at first sight."""
    found: list[tuple[torch.Tensor, str | None]] = []
    for group in [calls] if held else [[call] for call in calls]:
        before = [[_copy(tensor) for tensor in call[:5]] for call in group]
        for call in group:
            _poison(call)
        outputs = together(kernel, group)
        found += [
            (output, _changed(call, copies) or fault(output, call))
            for call, copies, output in zip(group, before, outputs, strict=True)
        ]
    return found


def _poison(call: Call) -> None:
    """Memory that was last full of NaN is what the allocator gives next for an output."""
    shape = (*call.q.shape[:3], call.v.shape[3])
    poison = [torch.full(shape, torch.nan, dtype=call.q.dtype, device=call.q.device) for _ in range(POISONED)]
    del poison


def _copy(tensor: torch.Tensor) -> torch.Tensor | None:
    """A copy of an input; of one that is too large, none."""
    return tensor.clone() if tensor.numel() * tensor.itemsize <= WATCHED_BYTES else None


def _changed(call: Call, before: Sequence[torch.Tensor | None]) -> str | None:
    for name, now, then in zip(Call._fields, call[:5], before, strict=False):
        if then is not None and not same_bits(now, then):
            return f"the input {name} was changed"
    return None


def _no_memory(case: Case, device: torch.device) -> str | None:
    """Why a case does not fit here; None where it does, and on a CPU, where no case is large."""
    if not case.memory_bytes or device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    if free >= case.memory_bytes:
        return None
    return f"{free / 1e9:.0f} GB of the GPU's memory are free, and the case needs {case.memory_bytes / 1e9:.0f}"
