"""The registry: what was requested is what loads, and what cannot run says why and how to fix it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nsa.config import BACKENDS, Flags
from nsa.errors import BackendUnavailable, ConfigError
from nsa.kernels import registry
from nsa.machine.host import Machine

CPU = Machine(capability=None)
ADA = Machine(capability=(8, 9))
HOPPER = Machine(capability=(9, 0))
NO_FLAGS = Flags()


def refusal(name: str, machine: Machine, flags: Flags) -> BackendUnavailable:
    """The error with which a backend is refused; loading refuses exactly as requiring does."""
    with pytest.raises(BackendUnavailable) as caught:
        registry.require(name, machine, flags)
    with pytest.raises(BackendUnavailable, match="unavailable"):
        registry.load(name, machine, flags)
    assert caught.value.backend == name
    return caught.value


def test_every_backend_of_the_configuration_is_registered() -> None:
    """A backend that config.yaml allows and the registry does not know would fail in the middle of a run."""
    assert tuple(registry.MODULES) == BACKENDS


@pytest.mark.parametrize("machine", [CPU, ADA, HOPPER])
def test_the_baseline_runs_everywhere(machine: Machine) -> None:
    """Packed SDPA is what every verdict compares with; there is none without it."""
    registry.require("sdpa", machine, NO_FLAGS)
    assert registry.load("sdpa", machine, NO_FLAGS).name == "sdpa"


@pytest.mark.parametrize("name", ["triton", "cuda", "fa2"])
def test_without_a_gpu_nothing_is_substituted(name: str) -> None:
    """A fallback to another backend on CPU is how the old system hid which code had run."""
    error = refusal(name, CPU, Flags(cuda=True, triton=True, triton_force=True, fa2_force=True))
    assert error.reason == "no CUDA device is visible"
    assert error.fix == "run on a machine with an NVIDIA GPU"
    assert str(error) == f"backend {name!r} is unavailable: {error.reason}; {error.fix}"


@pytest.mark.parametrize(
    ("name", "requested", "forced", "flag"),
    [
        ("triton", Flags(triton=True), Flags(triton_force=True), "NSA_TRITON_SEL_FORCE"),
        ("fa2", Flags(triton_force=True), Flags(fa2_force=True), "NSA_FA2_FORCE"),
    ],
)
def test_the_ada_guard_refuses_until_forced(name: str, requested: Flags, forced: Flags, flag: str) -> None:
    """The guide guards these two on the 4090; a request alone, or the other backend's flag, must not lift it."""
    guarded = refusal(name, ADA, requested)
    assert "compute capability 8.9" in guarded.reason
    assert f"set {flag}=1" in guarded.fix
    for machine in (ADA, HOPPER):
        registry.require(name, machine, forced)


@pytest.mark.parametrize("name", ["triton", "fa2"])
def test_no_flag_is_needed_where_nothing_is_guarded(name: str) -> None:
    """Breaks if a kernel that has passed on a GPU stays hidden behind an experiment's flag."""
    registry.require(name, HOPPER, NO_FLAGS)


def test_an_unknown_backend_is_a_setting_error() -> None:
    """A typo is no unavailable backend: recorded as a status, it would look like a missing kernel."""
    for ask in (registry.require, registry.load):
        with pytest.raises(ConfigError, match="backend: got 'tritn', expected one of sdpa, triton, cuda, fa2"):
            ask("tritn", HOPPER, NO_FLAGS)


def test_asking_imports_no_torch() -> None:
    """An unavailable cell is recorded in milliseconds; importing torch first takes seconds for each."""
    code = """
import sys
import nsa.kernels.registry as registry
from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.machine.host import Machine
for name in registry.MODULES:
    for capability in (None, (8, 9), (9, 0)):
        try:
            registry.require(name, Machine(capability), Flags())
        except BackendUnavailable:
            pass
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nsa.kernels.fa2" in loaded
    assert "torch" not in loaded


@pytest.mark.parametrize(("capability", "expected"), [([8, 9], (8, 9)), (None, None)])
def test_the_machine_is_read_from_the_records(capability: list[int] | None, expected: tuple[int, int] | None) -> None:
    """JSON has lists where the guard compares a tuple; a list would never be guarded."""
    artifacts = {"cuda": {"status": "skipped"}}
    assert Machine.from_records({"capability": capability}, artifacts) == Machine(expected, artifacts)
