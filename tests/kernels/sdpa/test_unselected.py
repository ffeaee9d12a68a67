"""What no row selects may hold anything: it never reaches an output of packed SDPA, of whatever variant."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from kernels.sdpa.calls import require_oracle, unequal_attention
from strategies import CPU

from nsa.bench.method.inputs import Call, full_case
from nsa.kernels import varlen
from nsa.kernels.contract import SelectAttention
from nsa.kernels.sdpa import packed
from nsa.kernels.sdpa.packed import VARIANTS
from nsa.records.shapes import CheckShape

WHATS = pytest.mark.parametrize("what", [torch.nan, torch.inf, -torch.inf])
ROWS = [
    ([2], 40),  # one block, partial, and padding behind it
    ([2], 48),  # one whole block
    ([1, 2], 40),  # neither begins at token 0, the last one is partial
    ([1, 3], 64),  # the block before the last one is not selected
    ([1, 3], 50),
    ([0, 3], 49),
    ([1, 2, 3, 4], 80),  # no padding
    ([0], 3),  # shorter than a block
    ([], 64),
    ([], 0),
    ([1, 4], 30),  # the second one begins beyond the length
]


def poisoned(what: float) -> Call:
    """A row for each of ROWS, in caches in which every token that the row does not have is `what`."""
    call = full_case(CheckShape(2 * len(ROWS), 2, 32, 64, 4, 16, 80, 2, "float32"), 0, CPU)
    token = torch.arange(80)
    for b, (blocks, length) in enumerate(ROWS):
        call.seq_lens[b] = length
        call.block_indices[b] = torch.tensor([*blocks, -1, -1, -1, -1][:4])
        absent = ~torch.isin(token // 16, torch.tensor(blocks)) | (token >= length)
        call.k[b, :, absent], call.v[b, :, absent] = what, what
    return call


@WHATS
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_no_row_selects_reaches_no_output(variant: str, what: float) -> None:
    """Where only the selected tokens are finite a variant's output is the oracle's."""
    require_oracle(VARIANTS[variant], poisoned(what))


def by_lengths(monkeypatch: pytest.MonkeyPatch, of_nothing: float) -> SelectAttention:
    """Packing for kernels that take lengths, with attention that touches nothing beyond them."""

    def efficient(q, k, v, bias, cu_q, cu_k, *sizes):
        return unequal_attention(q[0], k[0], v[0], cu_q, cu_k, *sizes[:2], of_nothing=of_nothing)[None], None

    monkeypatch.setattr(torch.ops.aten, "_efficient_attention_forward", efficient)
    return lambda *call: varlen.select(packed._memory_efficient, *call)


@WHATS
def test_packing_for_lengths_hands_over_no_other_token(what: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row's length counts the tokens that it has: the first of what is packed."""
    require_oracle(by_lengths(monkeypatch, torch.nan), poisoned(what))


KERNELS: dict[str, SelectAttention] = VARIANTS | {
    "lengths": lambda *call: varlen.select(packed._memory_efficient, *call)
}


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize(
    "cut",
    [
        lambda call: Call(*(tensor[:0] for tensor in call[:5]), call.block_size),
        lambda call: Call(*(tensor[:, :0] for tensor in call[:4]), *call[4:]),
        lambda call: call._replace(block_indices=call.block_indices[..., :0]),
        lambda call: call._replace(k=call.k[:, :, :0], v=call.v[:, :, :0], seq_lens=torch.zeros_like(call.seq_lens)),
    ],
    ids=["no sequence", "no group", "no block", "no capacity"],
)
def test_a_call_of_nothing_gives_zeros(kernel: SelectAttention, cut: Callable[[Call], Call]) -> None:
    """Sizes of 0 give an output of the right shape, zero where there is any."""
    call = cut(poisoned(torch.nan))
    output = kernel(*call)
    assert output.shape == (*call.q.shape[:3], call.v.shape[3]) and output.dtype == call.q.dtype
    assert not output.any()
