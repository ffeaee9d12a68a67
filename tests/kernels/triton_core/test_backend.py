"""The Triton core as a backend: what it offers, what it needs."""

from __future__ import annotations

import importlib.util

import pytest

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels import registry
from nsa.kernels.triton_core import backend
from nsa.kernels.triton_core.operator import DecodeCore
from nsa.kernels.triton_core.spec import SPEC
from nsa.machine.host import Machine


def test_it_offers_a_core_and_nothing_else() -> None:
    """The registry gives its core, on any GPU and without a build."""
    assert SPEC.contracts == {"core"} and SPEC.stage is None
    assert isinstance(registry.load("triton_core", Machine((8, 0)), Flags()).decode_core, DecodeCore)


def test_without_triton_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not there is a reason with its fix."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable) as caught:
        backend.require(Machine((9, 0)), Flags())
    assert (caught.value.reason, caught.value.fix) == (
        "the package triton is not installed",
        "pip install 'triton>=3.6'",
    )
