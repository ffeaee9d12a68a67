"""Whether one output of a selection kernel is right: faults, mean absolute error, worst-row error against float64."""

from __future__ import annotations

import torch

from nsa.bench.method.inputs import Call
from nsa.kernels.contract import SelectAttention

CHUNK_BYTES = 1 << 29  # of gathered keys and values in float64 that the batched oracle holds at once


def oracle(call: Call) -> torch.Tensor:
    """Selected attention in float64, [B, G, h, Dv]: dense scores over every token, masked; nothing is gathered.

    It runs on the call's own device and shares no step with the packed or fused kernels; the tests hold it against
    nsa.attention.reference, which is loops. It is slow beside `selected_oracle`, and judges a shape's first inputs.
    """
    out = torch.zeros(*call.q.shape[:3], call.v.shape[3], dtype=torch.float64, device=call.q.device)
    token = torch.arange(call.k.shape[2], device=call.q.device)
    for b in range(call.q.shape[0]):
        chosen = (call.block_indices[b][:, :, None] == token // call.block_size).any(1)  # [G, S]
        seen = chosen & (token < call.seq_lens[b])
        k = torch.where(seen[..., None], call.k[b].double(), 0)  # what is not seen may be NaN
        v = torch.where(seen[..., None], call.v[b].double(), 0)
        scores = call.q[b].double() @ k.transpose(-1, -2) / call.q.shape[-1] ** 0.5  # [G, h, S]
        p = scores.masked_fill(~seen[:, None], -torch.inf).softmax(-1)
        out[b] = torch.where(seen.any(-1)[:, None, None], p, 0) @ v
    return out


def selected_oracle(call: Call) -> torch.Tensor:
    """The same over the selected tokens alone, gathered and computed in float64 for some sequences at a time.

    It takes milliseconds, and judges every timed output and all inputs of a shape but the first.
    """
    (B, G, n), (_, _, h, D), Dv = call.block_indices.shape, call.q.shape, call.v.shape[3]
    out = torch.zeros(B, G, h, Dv, dtype=torch.float64, device=call.q.device)
    offset = torch.arange(call.block_size, device=call.q.device)
    token = (call.block_indices.long()[..., None] * call.block_size + offset).flatten(2)  # [B, G, n*l']
    same = call.block_indices[..., :, None] == call.block_indices[..., None, :]  # [B, G, n, n]
    again = same.tril(-1).any(-1).repeat_interleave(call.block_size, -1)  # a block that is named twice counts once
    seen = (token >= 0) & (token < call.seq_lens[:, None, None]) & ~again
    token = token.clamp(0, call.k.shape[2] - 1)
    step = max(1, CHUNK_BYTES // max(1, 8 * G * n * call.block_size * (D + Dv)))
    for first in range(0, B, step):
        rows = slice(first, first + step)
        place, here = token[rows, :, :, None], seen[rows]
        k = call.k[rows].gather(2, place.expand(-1, -1, -1, D)).double().masked_fill_(~here[..., None], 0)
        v = call.v[rows].gather(2, place.expand(-1, -1, -1, Dv)).double().masked_fill_(~here[..., None], 0)
        scores = call.q[rows].double() @ k.transpose(-1, -2) / D**0.5  # [b, G, h, n*l']
        p = scores.masked_fill_(~here[:, :, None], -torch.inf).softmax(-1)
        out[rows] = torch.where(here.any(-1)[..., None, None], p, 0) @ v
    return out


def run_poisoned(kernel: SelectAttention, call: Call) -> tuple[torch.Tensor, str | None]:
    """Call a kernel whose output memory was last full of NaN; returns the output and the first fault, if any.

    The allocator hands a freed block of the same size to the next request, which is the kernel's output; a few are
    freed, for kernels that ask for more than one.
    """
    before = [tensor.clone() for tensor in call[:5]]
    shape = (*call.q.shape[:3], call.v.shape[3])
    poison = [torch.full(shape, torch.nan, dtype=call.q.dtype, device=call.q.device) for _ in range(8)]
    del poison
    output = kernel(*call).clone()  # at once: what is not there yet is not its output
    for name, old, new in zip(Call._fields, before, call[:5], strict=False):
        if not same_bits(old, new):
            return output, f"the input {name} was changed"
    return output, fault(output, call)


def fault(output: torch.Tensor, call: Call) -> str | None:
    """What is wrong with an output whatever its accuracy: shape, dtype, NaN, an empty row that is not zero."""
    expected = (*call.q.shape[:3], call.v.shape[3])
    if tuple(output.shape) != expected or output.dtype != call.q.dtype:
        return f"the output is {tuple(output.shape)} {output.dtype}, expected {expected} {call.q.dtype}"
    if not bool(output.isfinite().all()):
        return "the output is not finite, or was not written everywhere"
    if bool((output[_empty_rows(call)] != 0).any()):
        return "a row without any token is not exactly zero"
    return None


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are alike to the last bit, shape and dtype included: NaN equals NaN, and 0 is not -0."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    for dim, steps in enumerate(zip(a.stride(), b.stride(), strict=True)):
        if steps == (0, 0):  # expanded, perhaps to more numbers than memory holds: one of them stands for all
            a, b = a.narrow(dim, 0, min(1, a.shape[dim])), b.narrow(dim, 0, min(1, b.shape[dim]))
    a, b = a.contiguous().flatten(), b.contiguous().flatten()
    # A CPU compares one by one, however wide: as 64-bit words where they fit, else as bytes.
    places = (a.numel(), a.storage_offset(), b.storage_offset())
    word = torch.int64 if all(place * a.itemsize % 8 == 0 for place in places) else torch.uint8
    return torch.equal(a.view(word), b.view(word))


def mean_absolute_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean of |a - b| over all elements, in float64."""
    return float((a.double() - b.double()).abs().mean())


def worst_row_error(output: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest ‖o - exact‖ / ‖exact‖ over all (sequence, head) rows of Dv values; rows of zeros are `fault`'s."""
    norm = exact.norm(dim=-1)
    error = (output.double() - exact).norm(dim=-1) / norm
    return float(torch.where(norm > 0, error, 0).max())


def _empty_rows(call: Call) -> torch.Tensor:
    """[B, G]: rows that select no token."""
    start = call.block_indices * call.block_size
    return ~((call.block_indices >= 0) & (start < call.seq_lens[:, None, None])).any(-1)
