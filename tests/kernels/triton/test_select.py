"""The public door without a device: what it refuses, what tuning freezes, and when the backend is there at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from kernels.triton.calls import Kind, random_call
from strategies import CPU

from nsa.config import Flags
from nsa.errors import BackendUnavailable, InputError
from nsa.kernels import registry
from nsa.kernels.machine import Machine
from nsa.kernels.triton import plan as plans
from nsa.kernels.triton import tune
from nsa.kernels.triton.plan import frozen
from nsa.kernels.triton.select import plan_of, select_attention

HOPPER = Machine(capability=(9, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.randn(2, 2, 4, 64)[..., ::2]}, r"q: got strides \(512, 256, 64, 2\), expected 1 in the last"),
        ({"k": torch.randn(2, 2, 32, 64).transpose(2, 3)}, r"k: got strides .*, expected 1 in the last dimension"),
        ({"v": torch.randn(2, 2, 64, 64)[..., ::2]}, r"v: got strides"),
        ({"v": torch.randn(2, 2, 64, 320)}, "v: got a width of 320, expected at most 256"),
        ({"block_indices": torch.zeros(2, 2, 3, dtype=torch.int64)}, "int64"),
        ({"block_size": 0}, "block_size: got 0"),
    ],
)
def test_what_it_cannot_do_is_refused(change: dict, message: str) -> None:
    """Breaks if a stride that the kernel ignores gives wrong numbers instead of an error."""
    call = {
        "q": torch.randn(2, 2, 4, 32),
        "k": torch.randn(2, 2, 64, 32),
        "v": torch.randn(2, 2, 64, 32),
        "block_indices": torch.zeros(2, 2, 3, dtype=torch.int32),
        "seq_lens": torch.ones(2, dtype=torch.int32),
        "block_size": 16,
    }
    with pytest.raises(InputError, match=message):
        select_attention(**{**call, **change})


def test_tuning_freezes_the_fastest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if tuning keeps another cut than the one it measured fastest, or calls do not use it."""
    monkeypatch.setattr(plans, "CACHE", tmp_path / "plans.json")
    frozen.cache_clear()
    call = random_call(5, Kind(torch.float16, 64, 64, 64, "plain"), CPU, rows=4, blocks=20)
    seen = []

    def time_us(run) -> float:
        seen.append(run.args[0])
        return 5.0 if len(seen) == 3 else 10.0

    best = tune.tune(time_us, *call)
    assert best == seen[2] and len(set(seen)) == len(seen) > 3
    assert plan_of(call.q, call.v, call.block_indices, call.block_size) == best
    frozen.cache_clear()


def test_it_loads_where_there_is_a_gpu_and_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a machine without Triton fails with a traceback, or one with it is refused."""
    backend = registry.load("triton", HOPPER, Flags(triton_force=True))
    assert backend.name == "triton" and backend.select_attention is select_attention and not backend.packs
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"the package triton is not installed; pip install 'triton>=3\.6'"):
        registry.require("triton", HOPPER, Flags(triton_force=True))
