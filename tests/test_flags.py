"""The flags: variables of the environment that ask for a build or a backend."""

from __future__ import annotations

import pytest
from configurations import GOOD, changed

from nsa import backends
from nsa.config import (
    BUILD,
    Config,
    Flags,
    variables,
)
from nsa.errors import ConfigError


def test_flags_read_the_guides_variables() -> None:
    """The flags are the build's and those that the backends declare, by the guide's names."""
    assert Flags.from_env({}) == Flags()
    assert set(variables()) >= {BUILD, "NSA_SEL_CUDA", "NSA_USE_TRITON_SEL", "NSA_TRITON_SEL_FORCE", "NSA_FA2_FORCE"}
    every = Flags.from_env(dict.fromkeys(variables(), "1"))
    assert all(every.on(variable) for variable in variables())
    assert every.requested == ("triton", "cuda", "fa2")
    some = Flags.from_env({"NSA_SEL_CUDA": "0", BUILD: "", "HOME": "/"})
    assert some == Flags({"NSA_SEL_CUDA": False}) and not some.on("NSA_SEL_CUDA") and not some.on(BUILD)
    assert some.requested == Flags({"NSA_TRITON_SEL_FORCE": True}).requested == ()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("NSA_USE_TRITON", "NSA_USE_TRITON_SEL"),
        ("NSA_SEL_CUDA_BULD", "NSA_SEL_CUDA_BUILD"),
        ("NSA_FA2", "NSA_FA2_FORCE"),
        ("NSA_LOCK", "NSA_LOCKS"),
    ],
)
def test_a_mistyped_flag_is_named_with_the_nearest(name: str, near: str) -> None:
    """What was asked for under a wrong name does not stay undone in silence."""
    with pytest.raises(ConfigError, match=rf"^{name}: no flag of this project, expected {near}, or"):
        Flags.from_env({name: "1"})


def test_variables_of_others_are_left_alone() -> None:
    """A name that is like none of ours is somebody else's."""
    theirs = {"NSA_TEST_KILLS": "300", "NSA_TEST_SEED": "7", "NSA_HOME": "/", "NSA_USE_EXAMPLE": "1", "NSA": "1"}
    assert Flags.from_env(theirs).values == {}


def test_a_flag_that_is_neither_0_nor_1_is_refused() -> None:
    """Another value of a flag is one line that names the variable."""
    with pytest.raises(ConfigError, match="NSA_FA2_FORCE: got 'true', expected 0, 1 or unset"):
        Flags.from_env({"NSA_FA2_FORCE": "true"})


@pytest.mark.parametrize(("value", "mode"), [("1", "require"), ("0", "skip"), ("", "auto")])
def test_the_build_flag_overrides_the_file(value: str, mode: str) -> None:
    """NSA_SEL_CUDA_BUILD asks for a build or forbids it; without it config.yaml decides."""
    assert Config.parse(GOOD, {BUILD: value}).build_mode == mode


def test_a_requested_backend_runs_once() -> None:
    """A flag adds its backend to the run, once where it is a candidate already."""
    config = Config.parse(changed("candidates", ["cuda"]), {"NSA_SEL_CUDA": "1", "NSA_USE_TRITON_SEL": "1"})
    assert config.backends == ("sdpa", "cuda", "triton")
    assert set(config.backends) <= set(backends.names())
