"""The second context that every timed process makes: it works, ends, and leaves the first one current."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from nsa.bench.method import settle as module
from nsa.bench.method.settle import settle

WHOLE = [
    "cuCtxGetCurrent",
    "cuDeviceGet",
    "cuCtxCreate_v2",
    "cuMemAlloc_v2",
    "cuMemsetD8_v2",
    "cuCtxSynchronize",
    "cuCtxDestroy_v2",
    "cuCtxSetCurrent",
]


def driver(monkeypatch: pytest.MonkeyPatch, failing: str | None = None) -> list[str]:
    """A stand-in for NVIDIA's driver, of which one function fails; returns what it was asked for, in order."""
    asked: list[str] = []

    def function(name: str) -> Callable[..., int]:
        def call(*_: object) -> int:
            asked.append(name)
            return 2 if name == failing else 0

        return call

    library = SimpleNamespace(**{name: function(name) for name in WHOLE})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return asked


def test_a_second_context_works_after_the_first_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made, sets memory, is waited for and ended, and the first is current again."""
    asked = driver(monkeypatch)
    settle(torch.device("cuda"))
    assert asked == ["synchronize", *WHOLE]


@pytest.mark.parametrize("failing", WHOLE[2:6])
def test_a_driver_that_refuses_is_named(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function and its number are told; a context that was made is ended all the same."""
    asked = driver(monkeypatch, failing)
    with pytest.raises(RuntimeError, match=f"^{failing} failed with CUDA driver error 2$"):
        settle(torch.device("cuda"))
    made = failing != "cuCtxCreate_v2"
    assert asked[-2:] == (["cuCtxDestroy_v2", "cuCtxSetCurrent"] if made else asked[-2:])
    assert ("cuCtxDestroy_v2" in asked) is made


@pytest.mark.gpu
def test_torch_works_on_afterwards() -> None:
    """Memory of the first context is as it was, and it is the current one."""
    kept = torch.arange(5, device="cuda")
    module.settle(torch.device("cuda"))
    assert (kept + 1).tolist() == [1, 2, 3, 4, 5]
