"""What a backend needs to know of the machine to say whether it can run here; read from the environment record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nsa.errors import BackendUnavailable

ADA = (8, 9)  # compute capability of the RTX 4090; the guide guards FA-2 and Triton selection there


@dataclass(frozen=True)
class Machine:
    """The facts that availability depends on; no torch, so that an unavailable cell is recorded in milliseconds."""

    capability: tuple[int, int] | None  # None: no CUDA device
    # by backend, the record of the stage that is its own: cuda's build, triton's tuning; absent: it has not run
    prepared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_records(cls, environment: Mapping[str, Any], prepared: Mapping[str, Mapping[str, Any]]) -> Machine:
        """Build from results/environment.json and the records of the backends' own stages."""
        major_minor = environment.get("capability")
        return cls(tuple(major_minor) if major_minor else None, prepared)


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
