"""Dense attention as rivals: what is installed, what refuses and why, and that adapters give the right function."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from nsa.bench.core import dense
from nsa.bench.core.judge import relative_error


def call() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two sequences, two groups of three heads, ten tokens."""
    torch.manual_seed(0)
    return torch.randn(2, 2, 3, 32), torch.randn(2, 2, 10, 32), torch.randn(2, 2, 10, 32)


def exact(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same in float64."""
    return (q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v.double()


def test_flash_gives_dense_attention() -> None:
    """The adapter's heads and groups are those of the contract."""
    kernels, _ = dense.kernels()
    assert relative_error(kernels["flash"](*call()), exact(*call())) < 1e-5


def test_a_kernel_that_refuses_says_why() -> None:
    """A CPU has no cuDNN; the reason is one line, the same for every shape."""
    kernels, _ = dense.kernels()
    refused = dense.able(kernels, *call())
    assert "flash" not in refused and set(refused) >= {"cudnn"}
    assert all("\n" not in why and why for why in refused.values())


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """FlashInfer and FlashAttention-3 are no dependency."""
    for package in dense.OF_PACKAGES.values():
        monkeypatch.setitem(sys.modules, package, None)
    kernels, absent = dense.kernels()
    assert set(absent) == {"flashinfer", "fa3"} and set(kernels) == set(dense.OF_TORCH)
    assert all(why.startswith("not installed (") for why in absent.values())


def test_a_full_device_is_no_refusal() -> None:
    """Memory that is short ends the run, as it does everywhere."""

    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        dense.able({"full": full}, *call())


class Wrapper:
    """FlashInfer's batch decode in torch: pages of one sequence each, heads before tokens."""

    plans = 0

    def __init__(self, room: torch.Tensor, layout: str, **buffers: Any) -> None:
        assert layout == "HND" and buffers["paged_kv_indptr_buffer"].tolist() == [0, 1, 2]

    def plan(self, pages: torch.Tensor, indices: torch.Tensor, last: torch.Tensor, *sizes: int, **dtypes: Any) -> None:
        assert sizes == (6, 2, 32, 10) and last.tolist() == [10, 10] and indices.tolist() == [0, 1]
        Wrapper.plans += 1

    def run(self, q: torch.Tensor, cache: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        k, v = cache
        out: torch.Tensor = exact(q.unflatten(1, (2, 3)), k, v).float().flatten(1, 2)
        return out


def test_the_adapters_of_installed_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hands over the same caches in its own layout, and FlashInfer plans once for a size, outside of a graph."""

    def with_cache(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        assert q.shape == (2, 1, 6, 32) and k.shape == (2, 10, 2, 32)
        return exact(q[:, 0].unflatten(1, (2, 3)), k.transpose(1, 2), v.transpose(1, 2)).float().flatten(1, 2)[:, None]

    fakes = {
        "flashinfer": SimpleNamespace(BatchDecodeWithPagedKVCacheWrapper=Wrapper),
        "flash_attn_interface": SimpleNamespace(flash_attn_with_kvcache=with_cache),
    }
    for name, fake in fakes.items():
        module: Any = ModuleType(name)
        module.__dict__.update(vars(fake))
        monkeypatch.setitem(sys.modules, name, module)
    kernels, absent = dense.kernels()
    assert absent == {}
    for name in ("flashinfer", "fa3"):
        for _ in range(2):
            assert relative_error(kernels[name](*call()), exact(*call())) < 1e-5
    assert Wrapper.plans == 1
