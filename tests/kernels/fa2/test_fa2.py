"""The FlashAttention-2 backend: where it runs, by which library, and that both are given the same tokens."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernels.sdpa.calls import TOLERANCE, draw_call, random_call, require_oracle, unequal_attention
from strategies import CPU

from nsa.bench.method.accuracy import oracle, run_poisoned, worst_row_error
from nsa.bench.method.inputs import full_case
from nsa.config import Flags
from nsa.errors import BackendUnavailable, InputError
from nsa.kernels import registry, varlen
from nsa.kernels.fa2 import backend as fa2
from nsa.machine.host import Machine
from nsa.records.shapes import CheckShape

HOPPER, TURING = Machine((9, 0)), Machine((7, 5))
GPU_SHAPES = 300


def with_kvcache(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, cache_seqlens: torch.Tensor, softmax_scale: float
) -> torch.Tensor:
    """What flash_attn's decode kernel computes: q [N, 1, h, D] over the first tokens of k, v [N, L, 1, D]."""
    assert cache_seqlens.dtype == torch.int32 and k.shape == v.shape and k.shape[2] == q.shape[1] == 1
    N, _, h, D = q.shape
    cu_q = torch.arange(0, (N + 1) * h, h, dtype=torch.int32)
    outputs = []
    for row in range(N):
        length = torch.tensor([0, cache_seqlens[row]], dtype=torch.int32)
        query = q[row, 0][:, None]
        outputs.append(unequal_attention(query, k[row], v[row], cu_q[:2], length, h, k.shape[1], scale=softmax_scale))
    return torch.stack(outputs).view(N, 1, h, D)


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A flash_attn package that runs on a CPU."""
    made = ModuleType("flash_attn")
    made.flash_attn_with_kvcache = with_kvcache  # type: ignore[attr-defined]
    made.__spec__ = importlib.machinery.ModuleSpec("flash_attn", None)
    monkeypatch.setitem(sys.modules, "flash_attn", made)
    monkeypatch.delitem(sys.modules, "nsa.kernels.fa2.package", raising=False)
    yield
    sys.modules.pop("nsa.kernels.fa2.package", None)  # it holds the made one


@pytest.mark.parametrize("dtype", TOLERANCE)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.usefixtures("package")
def test_the_package_equals_the_oracle_on_the_kernel_that_it_calls(dtype: torch.dtype, data: st.DataObject) -> None:
    """flash_attn is given the blocks and lengths with which its kernel gives the oracle's output."""
    from nsa.kernels.fa2 import package

    call = draw_call(data, dtype, whole=True)
    require_oracle(lambda *c: varlen.select(package.attend, *c), call)


def test_an_old_gpu_is_refused() -> None:
    """A GPU below compute capability 8.0 is refused, whatever the flags."""
    with pytest.raises(BackendUnavailable, match=r"needs compute capability 8\.0, this GPU has 7\.5"):
        registry.require("fa2", TURING, Flags({"NSA_FA2_FORCE": True}))


def test_without_either_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without FlashAttention the backend is unavailable, and says what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"neither PyTorch's FlashAttention .* install torch 2\.11 or later"):
        registry.require("fa2", HOPPER, Flags())


@pytest.mark.parametrize(("in_torch", "expected"), [(True, ["torch", "flash_attn"]), (False, ["flash_attn"])])
@pytest.mark.usefixtures("package")
def test_pytorchs_own_comes_first(in_torch: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's own FlashAttention is the backend's kernel where it is there; the package is a variant."""
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: in_torch)
    backend = registry.load("fa2", HOPPER, Flags())
    assert list(backend.variants) == expected
    assert backend.selection is backend.variants[expected[0]]
    assert (backend.selection is varlen.flash) == in_torch
    for kernel in backend.variants.values():
        with pytest.raises(InputError, match="on cpu, expected a CUDA device"):
            kernel(*full_case(CheckShape(2, 4, 32, 32, 4, 16, 64, 2, "float32"), 0, CPU))


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="the flash_attn package is installed")
def test_a_torch_built_without_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that was built without FlashAttention makes the backend unavailable."""
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="this torch was built without it"):
        fa2.load(HOPPER, None)


@pytest.mark.gpu
def test_both_libraries_equal_the_oracle_on_a_gpu() -> None:
    """On a GPU both libraries equal the oracle, with empty rows and NaN beyond the lengths."""
    device = torch.device("cuda")
    backend = fa2.load(Machine(torch.cuda.get_device_capability(device)), None)
    for name, kernel in backend.variants.items():
        for seed in range(GPU_SHAPES):
            call = random_call(seed, device, half=True)
            output, fault = run_poisoned(kernel, call)
            assert fault is None, f"{name}, seed {seed}: {fault}"
            assert worst_row_error(output, oracle(call)) <= TOLERANCE[call.q.dtype], f"{name}, seed {seed}"
