"""Why a backend cannot run on a machine: no CUDA device, or a guard that was not lifted."""

from __future__ import annotations

from nsa.errors import BackendUnavailable
from nsa.machine.host import Machine

ADA = (8, 9)  # compute capability of the RTX 4090; the guide guards FA-2 and Triton selection there


def require_cuda(backend: str, machine: Machine) -> None:
    """Raise BackendUnavailable when the machine has no CUDA device."""
    if machine.capability is None:
        raise BackendUnavailable(backend, "no CUDA device is visible", "run on a machine with an NVIDIA GPU")


def guard_ada(backend: str, machine: Machine, forced: bool, flag: str) -> None:
    """Refuse a backend on compute capability 8.9 unless forced (guide, "Default Production Guardrails")."""
    if machine.capability == ADA and not forced:
        raise BackendUnavailable(
            backend, "it is guarded on compute capability 8.9 (Ada)", f"set {flag}=1 to force it (experiments only)"
        )
