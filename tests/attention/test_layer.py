"""The decode step against the float64 oracle, against prefill, ragged, poisoned, and in parts."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CPU, boundaries, cache, float64_weights, shapes

from nsa.attention import reference
from nsa.attention.layer import NsaAttention
from nsa.attention.prefill import fill, prefill
from nsa.bench.method.launches import launched
from nsa.errors import CapacityError, ConfigError, InputError
from nsa.kernels.core import Parts
from nsa.kernels.sdpa.packed import VARIANTS, gather
from nsa.shapes import NsaShape

SMALL = NsaShape(
    dim=16, heads=4, groups=2, head_dim=8, value_dim=6, cmp_block=4, cmp_stride=2, sel_block=8, sel_count=3, window=10
)
# relative to the largest output; half precision rounds q, k, v and the outputs of each branch
ROUNDING = {torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 6e-2}


def decode(layer: NsaAttention, x: torch.Tensor, made, select=gather) -> torch.Tensor:
    """Token-by-token decode of x [B, T, dim]."""
    return torch.stack([layer.step(x[:, t], made, select).output for t in range(x.shape[1])], 1)


@settings(max_examples=20, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 2**31), variant=st.sampled_from(sorted(VARIANTS)))
def test_every_token_equals_the_oracle_up_to_the_last_boundary(shape: NsaShape, seed: int, variant: str) -> None:
    """Every token's output is the oracle's, at and around every boundary of S, in any shape."""
    T = min(max(boundaries(shape)), 60)
    capacity = shape.num_blocks(T) * shape.sel_block
    layer = NsaAttention(shape, seed)
    x = torch.randn(1, T, shape.dim, generator=torch.Generator().manual_seed(seed))
    got = decode(layer, x, cache(layer, 1, capacity), VARIANTS[variant])[0]
    exact = reference.decode(float64_weights(layer), x[0].double().numpy(), shape)
    np.testing.assert_allclose(got.double().numpy(), exact, atol=2e-5 * np.abs(exact).max(), rtol=0)


@pytest.mark.parametrize("phi", ["mean", "mlp"])
@pytest.mark.parametrize("dtype", ROUNDING)
def test_decode_after_prefill_equals_decode_from_nothing(phi: str, dtype: torch.dtype) -> None:
    """Prefill fills the caches as decode does, in any dtype, wherever it stops within a block."""
    shape = NsaShape(**{**vars(SMALL), "phi": phi, "sel_count": 12})  # all blocks: rounding cannot change routing
    layer = NsaAttention(shape).to(dtype)
    x = torch.randn(2, 70, shape.dim).to(dtype)
    alone = decode(layer, x, cache(layer, 2, 72, dtype))
    exact = reference.decode(float64_weights(layer), x[0].double().numpy(), shape)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(alone[0].double().numpy(), exact, atol=ROUNDING[dtype] * scale, rtol=0)
    for split in (1, 3, 4, 5, 31, 32, 33, 69):
        made = cache(layer, 2, 72, dtype)
        first = prefill(layer, x[:, :split], made, gather)
        rest = decode(layer, x[:, split:], made)
        joined = torch.cat((first, rest), 1)
        np.testing.assert_allclose(joined.double(), alone.double(), atol=ROUNDING[dtype] * scale, rtol=0)


def test_prefill_in_pieces_and_in_chunks_equals_one_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk boundary loses no compressed token, no token of the window and no position."""
    layer, x = NsaAttention(SMALL), torch.randn(2, 61, SMALL.dim)
    whole = prefill(layer, x, cache(layer, 2, 64), gather)
    monkeypatch.setattr("nsa.attention.prefill.CHUNK_BYTES", 1)  # one query token a chunk
    pieces = cache(layer, 2, 64)
    fill(layer, x[:, :7], pieces)
    fill(layer, x[:, 7:18], pieces)
    rest = prefill(layer, x[:, 18:], pieces, gather)
    torch.testing.assert_close(rest, whole[:, 18:], atol=1e-5, rtol=0)


@settings(max_examples=20, deadline=None)
@given(shape=shapes(), lengths=st.lists(st.integers(1, 60), min_size=2, max_size=4), seed=st.integers(0, 2**31))
def test_a_ragged_batch_equals_each_sequence_alone(shape: NsaShape, lengths: list[int], seed: int) -> None:
    """Each sequence of a ragged batch gives what it gives alone."""
    layer = NsaAttention(shape, seed)
    x = torch.randn(len(lengths), max(lengths) + 3, shape.dim, generator=torch.Generator().manual_seed(seed))
    together = cache(layer, len(lengths), 64 + shape.sel_block)
    prefill(layer, x[:, : max(lengths)], together, gather, lengths)
    for step in range(3):
        now = torch.stack([x[b, length + step] for b, length in enumerate(lengths)])
        got = layer.step(now, together, gather).output
        for b, length in enumerate(lengths):
            alone = cache(layer, 1, 64 + shape.sel_block)
            sequence = torch.cat((x[b, :length], *[x[b, length + i][None] for i in range(step + 1)]))[None]
            want = prefill(layer, sequence, alone, gather)[0, -1]
            torch.testing.assert_close(got[b], want, atol=1e-5, rtol=1e-4)


def test_nothing_beyond_the_length_is_read() -> None:
    """No branch reads a token, or a compressed token, that is not there yet; also in a ragged batch."""
    layer, x = NsaAttention(SMALL), torch.randn(2, 50, SMALL.dim)
    for lengths in ([37, 37], [37, 12], [3, 2]):
        made = cache(layer, 2, 56)
        prefill(layer, x, made, gather, lengths)
        for b, length in enumerate(lengths):
            for tensor in (made.k, made.v):
                tensor[:, b, :, length:] = torch.nan
            for tensor in (made.k_cmp, made.v_cmp):
                tensor[b, :, SMALL.num_compressed(length) :] = torch.nan
        assert layer.step(x[:, 0], made, gather).output.isfinite().all()


def test_a_part_that_is_off_launches_nothing() -> None:
    """An arm launches no operator of a branch that it leaves out."""
    shape = NsaShape(**{**vars(SMALL), "value_dim": 8})  # equal widths: SDPA stays one operator
    layer, x = NsaAttention(shape), torch.randn(1, 40, shape.dim)
    made = cache(layer, 1, 48)
    fill(layer, x, made)
    blocks = layer.step(x[:, 0], made, gather).block_indices

    def names(parts: Parts) -> list[str]:
        made.set_lengths([40])
        return launched(lambda: layer.step(x[:, 0], made, gather, parts, blocks), CPU)

    off = Parts(cmp=False, route=False, sel=False, win=False)
    attention = {"_softmax", "bmm", "topk", "sort", "gather", "_scaled_dot_product_flash_attention_for_cpu"}
    assert not attention & set(names(off))
    assert {"_softmax", "bmm"} == attention & set(names(Parts(route=False, sel=False, win=False)))
    assert {"_softmax", "bmm", "topk", "sort"} == attention & set(names(Parts(sel=False, win=False)))
    sel = {"gather", "_scaled_dot_product_flash_attention_for_cpu"}
    assert sel == attention & set(names(Parts(cmp=False, route=False, win=False)))
    win = {"_scaled_dot_product_flash_attention_for_cpu"}
    assert win == attention & set(names(Parts(cmp=False, route=False, sel=False)))


@pytest.mark.parametrize("lengths", [[40, 40], [40, 13]])
def test_a_step_reads_nothing_back_to_the_host_and_concatenates_nothing(lengths: list[int]) -> None:
    """A step neither waits for the device nor copies a cache."""
    layer, x = NsaAttention(SMALL), torch.randn(2, 50, SMALL.dim)
    made = cache(layer, 2, 56)
    prefill(layer, x, made, gather, lengths)
    used = set(launched(lambda: layer.step(x[:, 0], made, gather), CPU))
    assert not used & {"_local_scalar_dense", "nonzero", "cat", "is_nonzero", "masked_select"}


FIRST_STEPS = """
import sys
import torch
from nsa.attention.cache import KVCache
from nsa.attention.layer import NsaAttention
from nsa.attention.prefill import fill
from nsa.kernels.sdpa.packed import VARIANTS
from nsa.shapes import NsaShape

layer = NsaAttention(NsaShape())
for select in VARIANTS.values():
    for tokens in (20, 1000, 1500):  # nothing compressed, every block selected, some selected
        cache = KVCache(layer.shape, 1, 1536, torch.float32, torch.device("cpu"))
        fill(layer, torch.randn(1, tokens, 256), cache)
        layer.step(torch.randn(1, 256), cache, select)
print([name for name in ("sympy", "torch._dynamo", "torch._inductor") if name in sys.modules])
"""


def test_a_step_imports_nothing_of_torch_compile(pytestconfig: pytest.Config) -> None:
    """A first decode step imports neither sympy nor dynamo nor inductor, which take seconds in every process."""
    command = [sys.executable, "-c", FIRST_STEPS]
    ran = subprocess.run(command, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert ran.stdout == "[]\n", ran.stdout + ran.stderr


def test_faults_name_what_is_wrong() -> None:
    """A full cache, unequal lengths in prefill and parts that need each other are errors that say so."""
    layer, x = NsaAttention(SMALL), torch.randn(2, 9, SMALL.dim)
    made = cache(layer, 2, 8)
    with pytest.raises(CapacityError, match=r"\[9, 9\].*capacity of 8|9.*8"):
        fill(layer, x, made)
    prefill(layer, x[:, :8], made, gather, [8, 5])
    with pytest.raises(CapacityError, match="expected 0 to the cache's capacity of 8"):
        layer.step(x[:, 0], made, gather)
    with pytest.raises(InputError, match="one length for all"):
        fill(layer, x[:, :1], made)
    with pytest.raises(ConfigError, match="cmp as well"):
        Parts(cmp=False)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ROUNDING)
def test_a_captured_step_equals_the_eager_one(dtype: torch.dtype) -> None:
    """A step captures without waiting for the device, and its replay has the eager step's bits."""
    device = torch.device("cuda")
    layer = NsaAttention(NsaShape()).to(device, dtype)
    from nsa.attention.cache import KVCache

    made = KVCache(layer.shape, 2, 2048, dtype, device)
    fill(layer, torch.randn(2, 1500, 256, device=device, dtype=dtype), made)
    x = torch.randn(2, 256, device=device, dtype=dtype)
    eager = layer.step(x, made, gather).output
    made.set_lengths([1500, 1500])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = layer.step(x, made, gather).output
    finally:
        torch.cuda.set_sync_debug_mode("default")
    made.set_lengths([1500, 1500])
    graph.replay()
    torch.testing.assert_close(captured, eager, atol=0, rtol=0)
