"""Loads backends by name. What was requested is what loads, or BackendUnavailable says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa import backends
from nsa.config import Flags
from nsa.errors import ConfigError
from nsa.kernels.guards import require_unguarded
from nsa.machine.host import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(name: str, machine: Machine, flags: Flags) -> None:
    """Raise unless the backend can run on this machine under these flags; imports no torch.

    Raises:
        ConfigError: no backend has this name, or its package is broken.
        BackendUnavailable: with the reason and the fix.
    """
    spec = backends.spec(name)
    require_unguarded(spec, machine, flags)
    backends.resolve(spec.require)(machine, flags)


def load(name: str, machine: Machine, flags: Flags) -> Backend:
    """Load a backend that can run here; raises as `require` does."""
    require(name, machine, flags)

    from nsa.kernels.contract import Backend  # torch: only where a backend runs

    spec = backends.spec(name)
    loaded = backends.resolve(spec.load)(machine, machine.artifacts.get(name))
    if not isinstance(loaded, Backend) or loaded.name != name:
        said = f"{type(loaded).__name__} {getattr(loaded, 'name', '')!r}"
        raise ConfigError(f"backend {name!r}: {spec.load} gave {said}, expected its Backend; {backends.FIX}")
    return loaded
