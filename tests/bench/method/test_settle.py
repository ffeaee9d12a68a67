"""The second context of every timed process: made once, switched to before each turn, and the first stays current."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from nsa.bench.method.settle import SecondContext
from nsa.bench.method.timing import CudaTimer
from nsa.errors import NoMemory

MADE = ["cuCtxGetCurrent", "cuDeviceGet", "cuCtxCreate_v2", "cuMemAlloc_v2", "cuCtxSetCurrent"]
SWITCH = [
    "cuCtxSetLimit",
    "cuCtxResetPersistingL2Cache",
    "cuCtxSetCurrent",
    "cuMemsetD8_v2",
    "cuCtxSynchronize",
    "cuCtxSetCurrent",
]


def driver(monkeypatch: pytest.MonkeyPatch, failing: str | None = None, error: int = 999) -> list[str]:
    """A stand-in for NVIDIA's driver, of which one function fails; returns what it was asked for, in order."""
    asked: list[str] = []

    def function(name: str) -> Callable[..., int]:
        def call(*_: object) -> int:
            asked.append(name)
            return error if name == failing else 0

        return call

    library = SimpleNamespace(**{name: function(name) for name in (*MADE, *SWITCH)})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    return asked


def test_it_works_after_the_first_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once, each switch sets memory there and waits, and the first is current again."""
    asked = driver(monkeypatch)
    second = SecondContext(torch.device("cuda"))
    assert asked == ["synchronize", *MADE]
    second.switch()
    second.switch()
    assert asked == ["synchronize", *MADE, *SWITCH, *SWITCH]


@pytest.mark.parametrize(("error", "kind"), [(2, NoMemory), (999, RuntimeError)], ids=["no memory", "another"])
def test_a_driver_that_refuses_is_named(error: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for it is told as such; any other refusal has its function and its number."""
    driver(monkeypatch, "cuCtxCreate_v2", error)
    with pytest.raises(kind, match=r"^cuCtxCreate_v2"):
        SecondContext(torch.device("cuda"))


def test_the_first_is_current_again_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch that fails leaves torch where it was."""
    asked = driver(monkeypatch, "cuMemsetD8_v2")
    second = SecondContext(torch.device("cuda"))
    with pytest.raises(RuntimeError, match=r"^cuMemsetD8_v2 failed with CUDA driver error 999$"):
        second.switch()
    assert asked[-1] == "cuCtxSetCurrent"


@pytest.mark.gpu
def test_small_launches_take_the_same_time_after_every_switch() -> None:
    """After a switch a train of launches is never slower than before, and a second switch changes little."""
    device = torch.device("cuda")
    timer = CudaTimer(device)
    numbers = torch.randn(64, 256, device=device)

    def train() -> torch.Tensor:
        output = numbers
        for _ in range(20):
            output = torch.addcmul(numbers, output, numbers)
        return output

    captured = timer.capture(lambda: None, train, 3)

    def median() -> float:
        times = sorted(timer.time(lambda: None, captured.graph.replay, True, 101))
        return times[50]

    before = median()
    timer.settle()
    once = median()
    timer.settle()
    assert once <= 1.02 * before
    assert median() == pytest.approx(once, rel=0.03)
    assert (numbers + 1).sum().isfinite()  # torch works on in its own context
