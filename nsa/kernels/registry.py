"""Loads backends by name. What was requested is what loads, or BackendUnavailable says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue, TypeAdapter, ValidationError

from nsa import backends
from nsa.config import Flags
from nsa.kernels.failures import BackendBroken, kernel_at_work
from nsa.kernels.guards import require_unguarded
from nsa.machine.host import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(name: str, machine: Machine, flags: Flags) -> None:
    """Raise unless the backend can run on this machine under these flags; imports no torch.

    Raises:
        ConfigError: no backend has this name, or its spec is broken.
        BackendUnavailable: with the reason and the fix.
        KernelFailed: what it is asked with is not there, or raises anything else.
    """
    spec = backends.spec(name)
    require_unguarded(spec, machine, flags)
    with kernel_at_work(name, BackendBroken):
        backends.resolve(spec.require)(machine, flags)


def load(name: str, machine: Machine, flags: Flags) -> Backend:
    """Load a backend that can run here; raises as `require` does, of what loads it and of what that gives, too."""
    require(name, machine, flags)

    from nsa.kernels.contract import Backend  # torch: only where a backend runs

    spec = backends.spec(name)
    with kernel_at_work(name, BackendBroken):
        loaded = backends.resolve(spec.load)(machine, machine.artifacts.get(name))
    if not isinstance(loaded, Backend) or loaded.name != name:
        said = f"{type(loaded).__name__} {getattr(loaded, 'name', '')!r}"
        raise BackendBroken(f"{name}: {spec.load} gave {said}, expected its Backend")
    offered = {"selection": loaded.selection, "core": loaded.core}
    given = {contract for contract, kernel in offered.items() if kernel is not None}
    if given != spec.contracts:
        said = " and ".join(sorted(given)) or "nothing"
        wanted = " and ".join(sorted(spec.contracts))
        raise BackendBroken(f"{name}: {spec.load} gave a Backend with {said}, expected its contracts, {wanted}")
    return loaded


def notes(backend: Backend) -> tuple[JsonValue, ...]:
    """What a backend says of how its calls were made.

    Raises:
        KernelFailed: it is no list of JSON values.
    """
    with kernel_at_work(backend.name, BackendBroken):
        said: object = backend.notes()
    try:
        return tuple(TypeAdapter(list[JsonValue]).validate_python(said))
    except ValidationError as error:
        shown = " ".join(repr(said).split())
        raise BackendBroken(f"{backend.name}: its notes are {shown:.200}, expected a list of JSON values") from error
