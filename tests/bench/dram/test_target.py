"""The profiled program: one call of each shape in a profiled range."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from standins import ON_CPU

from nsa.bench.dram import target
from nsa.bench.dram.job import MARKER, Job
from nsa.bench.method.launches import launched
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.records.shapes import CheckShape

SHAPES = (CheckShape(8, 4, 32, 64, 4, 64, 500, 4, "float32"), CheckShape(4, 4, 32, 64, 4, 64, 500, 4, "float32"))


def test_one_call_of_each_shape_is_profiled_and_warming_up_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profiled range holds one call and the marker after it, and ends when the device has done both."""
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: happened.append("synchronize"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: happened.append("marker"))
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: happened.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: happened.append("stop"))

    def kernel(q: torch.Tensor, *others: object) -> torch.Tensor:
        happened.append(f"call {q.shape[0]}")
        return q

    monkeypatch.setattr(registry, "load", lambda name, machine, flags: Backend(name, kernel))
    path = tmp_path / "job"
    path.write_bytes(pickle.dumps(Job("sdpa", SHAPES, ON_CPU)))
    target.main(path)
    expected = []
    for call in ("call 2", "call 1"):
        expected += [*[call] * target.WARMUP, "synchronize", "start", call, "marker", "synchronize", "stop"]
    assert happened == expected


@pytest.mark.gpu
def test_the_marker_is_the_kernel_that_torch_launches() -> None:
    """The profile is split by the name of what torch.cuda._sleep launches."""
    names = launched(lambda: torch.cuda._sleep(1), torch.device("cuda"))
    assert [MARKER in name for name in names] == [True]
