"""Why a backend cannot run on a machine: no CUDA device, or a guard of its spec that no flag has lifted."""

from __future__ import annotations

from nsa.backends import BackendSpec
from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.machine.host import Machine

GENERATIONS = {(8, 9): " (Ada)"}  # the RTX 4090's, where the guide guards FA-2 and Triton selection


def require_cuda(backend: str, machine: Machine) -> None:
    """Raise BackendUnavailable when the machine has no CUDA device."""
    if machine.capability is None:
        raise BackendUnavailable(backend, machine.no_gpu, machine.fix)


def require_unguarded(spec: BackendSpec, machine: Machine, flags: Flags) -> None:
    """Refuse a backend on a compute capability that its spec guards, unless forced (docs/guide.md)."""
    for guard in spec.guards:
        if machine.capability == guard.capability and not flags.on(guard.lifted_by):
            capability = ".".join(map(str, guard.capability)) + GENERATIONS.get(guard.capability, "")
            raise BackendUnavailable(
                spec.name,
                f"it is guarded on compute capability {capability}",
                f"set {guard.lifted_by}=1 to force it (experiments only)",
            )
