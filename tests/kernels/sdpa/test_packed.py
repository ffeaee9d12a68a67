"""Every packed SDPA variant against the float64 oracle, over the whole selection contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.sdpa.calls import TOLERANCE, draw_call, random_call, require_oracle, unequal_attention
from strategies import CPU

from nsa.attention import reference
from nsa.bench.method.accuracy import oracle, run_poisoned, worst_row_error
from nsa.bench.method.inputs import full_case
from nsa.bench.method.launches import launched
from nsa.errors import InputError
from nsa.kernels import varlen
from nsa.kernels.sdpa import packed
from nsa.kernels.sdpa.packed import CUDA_VARIANTS, VARIANTS
from nsa.records.shapes import CheckShape

ALL = VARIANTS | CUDA_VARIANTS
DECODE = CheckShape(2, 4, 32, 32, 16, 64, 1024, 2, "float32")  # the default decode cell: B = 1, G = 2
GPU_SHAPES = 300


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_variants_equal_the_oracle(variant: str, dtype: torch.dtype, data: st.DataObject) -> None:
    """A variant's output is the oracle's, with ragged lengths, padding and empty rows."""
    require_oracle(VARIANTS[variant], draw_call(data, dtype))


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_blocks_equals_the_oracle_on_the_kernel_that_it_calls(dtype: torch.dtype, data: st.DataObject) -> None:
    """The memory-efficient kernel, which no CPU has, is given the right blocks, lengths and boundaries."""

    def kernel(q, k, v, bias, cu_q, cu_k, max_q, max_k, dropout, mask):
        assert bias is None and dropout == 0 and mask == 0
        return unequal_attention(q[0], k[0], v[0], cu_q, cu_k, max_q, max_k, of_nothing=torch.nan)[None], None

    call = draw_call(data, dtype, whole=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.ops.aten, "_efficient_attention_forward", kernel)
        require_oracle(lambda *c: varlen.select(packed._memory_efficient, *c), call)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("length", [0, 1, 15, 16, 17])
def test_a_sequence_about_one_block_long(variant: str, length: int) -> None:
    """Sequences of 0 tokens, of one and of about one block give the oracle's output, without NaN."""
    call = full_case(CheckShape(3, 2, 32, 64, 4, 16, 16 * 4, 1, "float32"), 0, CPU)
    for b, S in enumerate((length, 64, length)):
        call.k[b, :, S:], call.v[b, :, S:], call.seq_lens[b] = torch.nan, torch.nan, S
        if S < 64:
            indices = [*range(-(-S // 16)), -1, -1, -1, -1][:4]
            call.block_indices[b] = torch.tensor(indices)
    require_oracle(VARIANTS[variant], call)


def test_gather_takes_strided_and_expanded_caches_where_index_select_refuses() -> None:
    """Gather reads caches of any strides; index_select refuses them, and copies nothing to allow them."""
    k = torch.randn(1, 2, 64, 32).expand(3, -1, -1, -1)
    v = torch.randn(3, 2, 64, 80)[..., ::2]
    call = (torch.randn(3, 2, 4, 32), k, v, torch.tensor([0, 2, -1], dtype=torch.int32).expand(3, 2, 3))
    lengths = torch.tensor([64, 40, 33], dtype=torch.int32)
    got = VARIANTS["gather"](*call, lengths, 16)
    exact = reference.select_attention(*(t.double().numpy() for t in call[:3]), call[3].numpy(), lengths.numpy(), 16)
    np.testing.assert_allclose(got.numpy(), exact, atol=2e-5)
    with pytest.raises(InputError, match="expected contiguous caches"):
        VARIANTS["index_select"](*call, lengths, 16)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("first", "size"), [(0, 32), (1, 32), (2, 6), (4, 12), (0, 7)])
def test_gather_copies_words_of_any_alignment(dtype: torch.dtype, first: int, size: int) -> None:
    """A cache is viewed as the widest words that its sizes and strides allow."""
    whole = torch.randn(1, 1, 32, 2 * size + first).to(dtype)
    cache = whole[..., first : first + size]
    got = packed._words(cache)[0, 0, 5].contiguous().view(dtype)
    assert torch.equal(got, cache[0, 0, 5])
    assert packed._words(torch.zeros(1, 1, 32, 32, dtype=dtype)).itemsize == 16


def test_launches_stay_few() -> None:
    """The selected branch, whose time is its launches, launches no more than this."""
    call = full_case(DECODE, 0, CPU)
    for variant, bound in (("gather", 11), ("index_select", 29)):
        assert len(launched(lambda variant=variant: VARIANTS[variant](*call), CPU)) <= bound

    def pack(sequences: varlen.Packed) -> torch.Tensor:
        varlen.boundaries(sequences)
        return sequences.q

    assert len(launched(lambda: varlen.select(pack, *call), CPU)) <= 11  # and the attention


@pytest.mark.parametrize("variant", CUDA_VARIANTS)
def test_what_needs_a_gpu_says_so(variant: str) -> None:
    """A variant that has no CPU kernel refuses a CPU's tensors with the reason."""
    with pytest.raises(InputError, match="on cpu, expected a CUDA device"):
        CUDA_VARIANTS[variant](*full_case(DECODE, 0, CPU))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.__setitem__(0, c[0][0]), r"q: got shape \(2, 4, 32\), expected \[B, G, h, D\]"),
        (lambda c: c.__setitem__(1, c[1][..., :16]), "k: got shape"),
        (lambda c: c.__setitem__(2, c[2][:1]), "v: got shape"),
        (lambda c: c.__setitem__(0, c[0].repeat(1, 1, 5, 1)), "h = 20"),
        (lambda c: c.__setitem__(1, c[1].double()), "float64"),
        (lambda c: c.__setitem__(3, c[3].long()), "int64"),
        (lambda c: c.__setitem__(4, c[4][:1]), "seq_lens: got shape"),
        (lambda c: c.__setitem__(5, 0), "block_size: got 0"),
    ],
)
@pytest.mark.parametrize("kernel", [VARIANTS["gather"], VARIANTS["index_select"]])
def test_bad_calls_name_the_argument(kernel, change, message: str) -> None:
    """A wrong argument raises an InputError that names it."""
    call = [
        torch.randn(2, 2, 4, 32),
        torch.randn(2, 2, 64, 32),
        torch.randn(2, 2, 64, 32),
        torch.zeros(2, 2, 3, dtype=torch.int32),
        torch.ones(2, dtype=torch.int32),
        16,
    ]
    change(call)
    with pytest.raises(InputError, match=message):
        kernel(*call)


@pytest.mark.gpu
@pytest.mark.parametrize("variant", ALL)
def test_variants_equal_the_oracle_on_a_gpu(variant: str) -> None:
    """On a GPU every variant equals the oracle, with empty rows and NaN beyond the lengths."""
    flash = variant == "varlen"
    for seed in range(GPU_SHAPES):
        call = random_call(seed, torch.device("cuda"), half=flash)
        output, fault = run_poisoned(ALL[variant], call)
        assert fault is None, f"seed {seed}: {fault}"
        assert worst_row_error(output, oracle(call)) <= TOLERANCE[call.q.dtype], f"seed {seed}"


@pytest.mark.gpu
@pytest.mark.parametrize("variant", ALL)
def test_variants_capture_without_waiting_and_replay_bit_for_bit(variant: str) -> None:
    """A variant reads nothing back to the host, and its replays follow the lengths with equal bits."""
    device = torch.device("cuda")
    call = full_case(CheckShape(64, 4, 64, 64, 16, 64, 4096, 4, "bfloat16"), 0, device)
    kernel = ALL[variant]
    first = kernel(*call).clone()
    torch.cuda.set_sync_debug_mode("error")
    try:
        kernel(*call)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = kernel(*call)
    for _ in range(3):
        captured.fill_(torch.nan)
        graph.replay()
        assert torch.equal(captured, first)
    call.seq_lens.sub_(64)
    graph.replay()
    assert torch.equal(captured, kernel(*call)) and not torch.equal(captured, first)
