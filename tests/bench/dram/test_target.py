"""The profiled program: one call in the profiled range."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from nsa.bench.dram import target as dram_target
from nsa.bench.dram.stage import Job
from nsa.bench.method.shapes import CheckShape
from nsa.config import Flags
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.machine.host import Host, Machine

SHAPE = CheckShape(8, 4, 32, 64, 4, 64, 500, 4, "float32")


def test_one_call_is_profiled_and_warming_up_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if compiling and warming up are counted, or the program ends before the kernel has."""
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: happened.append("synchronize"))
    monkeypatch.setattr(torch.cuda.profiler, "start", lambda: happened.append("start"))
    monkeypatch.setattr(torch.cuda.profiler, "stop", lambda: happened.append("stop"))

    def kernel(q: torch.Tensor, *others: object) -> torch.Tensor:
        assert q.shape == (2, 4, 4, 32)
        happened.append("call")
        return q

    monkeypatch.setattr(registry, "load", lambda name, machine, flags: Backend(name, kernel))
    path = tmp_path / "job"
    path.write_bytes(pickle.dumps(Job("sdpa", SHAPE, Host("cpu", "a CPU", None, Machine(None), Flags()))))
    dram_target.main(path)
    assert happened == [*["call"] * dram_target.WARMUP, "synchronize", "start", "call", "synchronize", "stop"]
