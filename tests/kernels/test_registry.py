"""The registry: what was requested is what loads, and what cannot run says why and how to fix it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from nsa import backends
from nsa.attention.composition import compose
from nsa.config import Flags
from nsa.errors import BackendUnavailable, ConfigError
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.failures import BackendBroken
from nsa.kernels.guards import require_unguarded
from nsa.kernels.sdpa import backend as sdpa
from nsa.kernels.sdpa.packed import gather
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


@pytest.mark.parametrize("machine", [CPU, ADA, HOPPER])
def test_the_baseline_runs_everywhere(machine: Machine) -> None:
    """Packed SDPA, which every verdict compares with, loads on any machine."""
    registry.require("sdpa", machine, NO_FLAGS)
    assert registry.load("sdpa", machine, NO_FLAGS).name == "sdpa"


@pytest.mark.parametrize("name", ["triton", "cuda", "fa2", "triton_core"])
def test_without_a_gpu_nothing_is_substituted(name: str) -> None:
    """A backend that needs a GPU is refused without one, whatever the flags, and nothing runs in its place."""
    every = Flags(dict.fromkeys(("NSA_SEL_CUDA", "NSA_USE_TRITON_SEL", "NSA_TRITON_SEL_FORCE", "NSA_FA2_FORCE"), True))
    error = refusal(name, CPU, every)
    assert error.reason == "no CUDA device is visible"
    assert error.fix == "run on a machine with an NVIDIA GPU"
    assert str(error) == f"backend {name!r} is unavailable: {error.reason}; {error.fix}"


@pytest.mark.parametrize(
    ("name", "requested", "forced"),
    [
        ("triton", {"NSA_USE_TRITON_SEL": True, "NSA_FA2_FORCE": True}, "NSA_TRITON_SEL_FORCE"),
        ("fa2", {"NSA_TRITON_SEL_FORCE": True, "NSA_FA2_FORCE": False}, "NSA_FA2_FORCE"),
    ],
)
def test_the_ada_guard_refuses_until_forced(name: str, requested: dict[str, bool], forced: str) -> None:
    """On the 4090 these two are refused unless forced; a request alone, or the other's flag, lifts nothing."""
    guarded = refusal(name, ADA, Flags(requested))
    assert guarded.reason == "it is guarded on compute capability 8.9 (Ada)"
    assert guarded.fix == f"set {forced}=1 to force it (experiments only)"
    for machine in (ADA, HOPPER):
        registry.require(name, machine, Flags({forced: True}))


@pytest.mark.parametrize("name", ["triton", "fa2"])
def test_no_flag_is_needed_where_nothing_is_guarded(name: str) -> None:
    """A guard holds on its compute capability only."""
    registry.require(name, HOPPER, NO_FLAGS)


def test_a_guard_is_of_any_capability() -> None:
    """Guards are applied from the spec, to any backend on any compute capability."""
    spec = replace(backends.spec("fa2"), guards=(backends.Guard((12, 0), lifted_by="NSA_FA2_FORCE"),))
    require_unguarded(spec, ADA, NO_FLAGS)
    require_unguarded(spec, Machine((12, 0)), Flags({"NSA_FA2_FORCE": True}))
    with pytest.raises(BackendUnavailable, match=r"guarded on compute capability 12\.0; set NSA_FA2_FORCE=1"):
        require_unguarded(spec, Machine((12, 0)), NO_FLAGS)


def test_an_unknown_backend_is_a_setting_error() -> None:
    """A name that no backend has is no unavailable backend: it ends the command."""
    for ask in (registry.require, registry.load):
        with pytest.raises(ConfigError, match="backend: got 'tritn', expected one of sdpa, triton, cuda, fa2"):
            ask("tritn", HOPPER, NO_FLAGS)


@pytest.mark.parametrize(
    ("load", "message"),
    [
        ("nsa.kernels.sdpa.backend:loda", "nsa.kernels.sdpa.backend:loda cannot be imported"),
        ("nsa.kernels.sdpa.backend:load", "nsa.kernels.sdpa.backend:load gave Backend 'sdpa', expected its Backend"),
        ("nsa.kernels.sdpa.backend:require", "nsa.kernels.sdpa.backend:require gave NoneType '', expected its Backend"),
    ],
)
def test_a_package_that_gives_no_backend_is_named(load: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec whose `load` is not there, or gives something else than its Backend, is one line."""
    wrong = replace(backends.spec("sdpa"), name="fa2", load=load)
    monkeypatch.setattr(backends, "spec", lambda name: wrong)
    with pytest.raises(BackendBroken) as caught:
        registry.load("fa2", HOPPER, NO_FLAGS)
    assert str(caught.value).startswith(f"fa2: {message}") and "leave it out of candidates" in caught.value.fix


@pytest.mark.parametrize("raised", [ValueError("a bug\nof its own"), SystemExit("a bug"), ImportError("a bug")])
def test_a_backend_that_cannot_be_asked_fails_alone(raised: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `require` raises beside BackendUnavailable is the backend's failure, and ends nobody else's run."""

    def require(machine: Machine, flags: Flags) -> None:
        raise raised

    monkeypatch.setattr(sdpa, "require", require)
    for ask in (registry.require, registry.load):
        with pytest.raises(BackendBroken, match=rf"^sdpa: {type(raised).__name__}: a bug$"):
            ask("sdpa", HOPPER, NO_FLAGS)


@pytest.mark.parametrize("notes", [None, "text", {"a": 1}, [object()], [{1: 2}], [torch.ones(1)]])
def test_notes_that_no_record_can_keep_are_a_failure(notes: object) -> None:
    """Notes are a list of JSON values."""
    backend = Backend("mine", gather, notes=lambda: notes)  # type: ignore[arg-type,return-value]
    with pytest.raises(BackendBroken, match=r"^mine: its notes are .*, expected a list of JSON values$"):
        registry.notes(backend)
    assert registry.notes(Backend("mine", gather, notes=lambda: [{"way": "sum"}, 1])) == ({"way": "sum"}, 1)


def test_notes_that_raise_are_a_failure() -> None:
    """Asking for notes is asking the backend."""

    def notes() -> list[object]:
        raise KeyError("way")

    with pytest.raises(BackendBroken, match=r"^mine: KeyError: 'way'$"):
        registry.notes(Backend("mine", gather, notes=notes))  # type: ignore[arg-type]


def test_asking_imports_no_torch() -> None:
    """Whether a backend can run is known without importing torch, so that an unavailable cell takes milliseconds."""
    code = """
import sys
import nsa.kernels.registry as registry
from nsa import backends
from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.machine.host import Machine
for name in backends.names():
    for capability in (None, (8, 9), (9, 0)):
        try:
            registry.require(name, Machine(capability), Flags())
        except BackendUnavailable:
            pass
print(*sys.modules)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nsa.kernels.fa2.backend" in loaded
    assert not {"torch", "triton", "numpy", "pandas", "pyarrow"} & set(loaded)


def test_a_backend_gives_what_its_spec_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spec that promises a core and gives a selection kernel is broken, and says both."""
    wrong = replace(backends.spec("sdpa"), contracts=frozenset({"core"}))
    monkeypatch.setattr(backends, "spec", lambda name: wrong)
    with pytest.raises(BackendBroken, match="gave a Backend with selection, expected its contracts, core"):
        registry.load("sdpa", HOPPER, NO_FLAGS)


def test_what_a_backend_does_not_offer_is_refused() -> None:
    """Asking for the other contract is one line with the fix."""
    with pytest.raises(BackendUnavailable, match="'mine' is unavailable: it offers a selection kernel and no decode"):
        _ = Backend("mine", gather).decode_core
    with pytest.raises(BackendUnavailable, match="'mine' is unavailable: it offers a decode core and no selection"):
        _ = Backend("mine", core=compose(gather)).selection_kernel
