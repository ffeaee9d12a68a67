"""The Triton backend: where it can run, and what it takes from its tuning's artifact."""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, replace

import pytest
from pydantic import JsonValue

from nsa.config import Flags
from nsa.errors import BackendUnavailable, RecordError
from nsa.kernels import registry
from nsa.kernels.triton import select, tuning
from nsa.kernels.triton.plan import LaunchConfig, Size
from nsa.machine.host import Artifact, Machine

HOPPER = Machine(capability=(9, 0))
SIZE = Size(rows=256, heads=8, count=16, block=64, head_dim=128, value_dim=128, itemsize=2, processors=132)
CONFIG = LaunchConfig(32, 4, 2, True)


def artifact(**changes: JsonValue) -> Artifact:
    """What a tuning that went well has written."""
    sizes: list[JsonValue] = [{"size": asdict(SIZE), "plan": asdict(CONFIG), "candidates": []}]
    return {"status": "ok", "reason": None, "fix": None, "tuned_for": "a GPU", "sizes": sizes, **changes}


def tuned(**changes: JsonValue) -> Machine:
    """A Hopper on which the tuning has run."""
    return Machine((9, 0), {"triton": artifact(**changes)})


def test_it_loads_where_there_is_a_gpu_and_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads with a GPU and Triton; without Triton it is refused with the command that installs it."""
    backend = registry.load("triton", HOPPER, Flags())
    assert backend.name == "triton" and backend.notes() == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=r"the package triton is not installed; pip install 'triton>=3\.6'"):
        registry.require("triton", HOPPER, Flags())


def test_launch_configurations_are_those_of_this_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations of another device or software are refused; without a GPU to tune on, the rule chooses."""
    monkeypatch.setattr(select, "describe", lambda device: "a GPU")
    registry.load("triton", tuned(), Flags())
    registry.load("triton", tuned(status="unavailable", tuned_for=None, sizes=[]), Flags())
    with pytest.raises(BackendUnavailable, match=r"measured for another GPU, this is a GPU; delete results/tune/tri"):
        registry.load("triton", tuned(tuned_for="another GPU"), Flags())


@pytest.mark.parametrize("status", ["failed", "oom"])
def test_a_tuning_that_failed_is_not_passed_over(status: str) -> None:
    """After a tuning that failed the backend is unavailable, with the tuning's reason and fix."""
    with pytest.raises(BackendUnavailable) as caught:
        registry.require("triton", tuned(status=status, reason="it crashed", fix="look", sizes=[]), Flags())
    assert caught.value.reason == f"its tuning ended as {status}: it crashed"
    assert caught.value.fix.startswith("look; delete results/tune/triton.json, then run `snakemake results/tune/")


def test_an_artifact_gives_its_launch_configurations_back() -> None:
    """A tuned size has its configuration; one for which none was right has none."""
    rows: list[JsonValue] = [
        {"size": asdict(SIZE), "plan": asdict(CONFIG)},
        {"size": asdict(replace(SIZE, heads=4)), "plan": None},
    ]
    assert tuning.of(artifact(sizes=rows)).plans == {SIZE: CONFIG}


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"status": "ok"},
        artifact(sizes=[1]),
        artifact(sizes=[{}]),
        artifact(status="fine"),
        artifact(sizes=[{"size": asdict(SIZE), "plan": {"tokens": 64}}]),
        artifact(sizes=[{"size": asdict(SIZE) | {"rows": "256"}, "plan": None}]),
    ],
)
def test_a_broken_artifact_is_one_line(broken: Artifact) -> None:
    """A damaged artifact is an error with a fix, and never silently the rule."""
    for ask in (registry.require, registry.load):
        with pytest.raises(RecordError, match=r"^results/tune/triton\.json: .*; delete it and rerun$"):
            ask("triton", Machine((9, 0), {"triton": broken}), Flags())
