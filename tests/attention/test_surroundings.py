"""What surrounds a call, torch's default dtype and autocast, changes no bit of a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from strategies import CPU, cache

from nsa.attention.layer import NsaAttention
from nsa.attention.prefill import prefill
from nsa.bench.method.accuracy import oracle, selected_oracle
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.kernels.sdpa.packed import VARIANTS, gather
from nsa.records.shapes import CheckShape
from nsa.shapes import NsaShape

CALL = CheckShape(4, 2, 32, 64, 3, 16, 100, 2, "float32")


@contextmanager
def default(dtype: torch.dtype) -> Iterator[None]:
    """Torch's default dtype is this one inside."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS = {
    "float64": lambda: default(torch.float64),
    "bfloat16": lambda: default(torch.bfloat16),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def layer_outputs(phi: str, dtype: torch.dtype) -> torch.Tensor:
    """Prefill of two tokens and steps to 30, from before a compressed token is there (l = 8) to after a dozen."""
    sizes = {"dim": 16, "heads": 4, "head_dim": 8, "value_dim": 6, "cmp_block": 8, "cmp_stride": 2, "sel_block": 2}
    shape = NsaShape(**sizes, sel_count=3, window=10, phi=phi)
    layer = NsaAttention(shape).to(dtype)
    x = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float32).to(dtype)
    made = cache(layer, 2, 32, dtype)
    first = prefill(layer, x[:, :2], made, gather)
    return torch.cat((first, *(layer.step(x[:, t], made, gather).output[:, None] for t in range(2, 30))), 1)


def drawn() -> torch.Tensor:
    """What the harness draws for a kernel, as one vector."""
    return torch.cat([tensor.double().nan_to_num().flatten() for tensor in ragged_case(CALL, 0, CPU)[:5]])


RESULTS: dict[str, Callable[[], torch.Tensor]] = {
    "mean": lambda: layer_outputs("mean", torch.float32),
    "mlp": lambda: layer_outputs("mlp", torch.float32),
    "mean in bfloat16": lambda: layer_outputs("mean", torch.bfloat16),
    "mlp in bfloat16": lambda: layer_outputs("mlp", torch.bfloat16),
    "inputs": drawn,
    "oracle": lambda: oracle(ragged_case(CALL, 0, CPU)),
    "selected oracle": lambda: selected_oracle(full_case(CALL, 0, CPU)),
    **{name: lambda kernel=kernel: kernel(*ragged_case(CALL, 0, CPU)) for name, kernel in VARIANTS.items()},
}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("surroundings", SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_neither_the_default_dtype_nor_autocast_changes_a_result(surroundings, result) -> None:
    """A result has the same dtype and the same bits as without."""
    expected = result()
    with surroundings():
        found = result()
    assert found.dtype == expected.dtype and torch.equal(found, expected)
