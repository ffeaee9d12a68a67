"""The registry of backends: one line each. What was requested is what loads, or BackendUnavailable says why not."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import ConfigError
from nsa.machine.host import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

# Named, not imported: a backend's module offers `require(machine, flags)`, which raises BackendUnavailable without
# importing torch, and `load(machine)`, which returns its Backend.
MODULES = {
    "sdpa": "nsa.kernels.sdpa",
    "triton": "nsa.kernels.triton",
    "cuda": "nsa.kernels.cuda",
    "fa2": "nsa.kernels.fa2",
}


def require(name: str, machine: Machine, flags: Flags) -> None:
    """Raise unless the backend can run on this machine under these flags.

    Raises:
        ConfigError: no backend has this name.
        BackendUnavailable: with the reason and the fix.
    """
    importlib.import_module(_module(name)).require(machine, flags)


def load(name: str, machine: Machine, flags: Flags) -> Backend:
    """Load a backend that can run here; raises as `require` does."""
    require(name, machine, flags)
    backend: Backend = importlib.import_module(_module(name)).load(machine)
    return backend


def _module(name: str) -> str:
    if name not in MODULES:
        raise ConfigError(f"backend: got {name!r}, expected one of {', '.join(MODULES)}")
    return MODULES[name]
