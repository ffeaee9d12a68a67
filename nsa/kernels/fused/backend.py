"""The fused decode core as a backend: what it needs, and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.extension.backend import library, load_library
from nsa.kernels.guards import require_cuda
from nsa.machine.host import Artifact, Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

OLDEST = (8, 0)  # the first with asynchronous copies and bfloat16 tensor cores


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device of capability 8.0, and without an extension built for it.

    Raises:
        RecordError: the build's manifest is broken.
    """
    require_cuda("fused", machine)
    assert machine.capability is not None  # require_cuda
    if machine.capability < OLDEST:
        capability = ".".join(map(str, machine.capability))
        raise BackendUnavailable("fused", f"compute capability {capability} is below 8.0", "run on a newer GPU")
    library("fused", machine, machine.artifacts.get("fused"))


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """Load the extension that the build's manifest names, and give its core."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.fused import operator

    load_library("fused", machine, artifact, operator.load)
    return Backend("fused", core=operator.decode_core, notes=operator.notes)
