"""The CUDA kernel as a backend: where its extension was built, and loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.kernels.extension.backend import library, load_library
from nsa.kernels.guards import require_cuda
from nsa.machine.host import Artifact, Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, and without an extension that was built for it.

    Raises:
        RecordError: the build's manifest is broken.
    """
    require_cuda("cuda", machine)
    library("cuda", machine, machine.artifacts.get("cuda"))


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """Load the extension that the build's manifest names."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.cuda import operator

    load_library("cuda", machine, artifact, operator.load)
    return Backend("cuda", operator.select_attention)
