"""A right core for the candidate's process; only the process that loads it imports this."""

from __future__ import annotations

import torch
import wrong_core_attacks
from wrong_cores_kept import RIGHT

from nsa.kernels.contract import Backend


def load(name: str, machine: object, flags: object) -> Backend:
    """The composed core."""
    assert wrong_core_attacks.server.CudaTimer  # on a CPU, that module has put the stand-in there
    return Backend(name, core=RIGHT, notes=lambda: ["composed"])


def switches_torch(name: str, machine: object, flags: object) -> Backend:
    """It switches determinism on for the whole of its process."""
    torch.use_deterministic_algorithms(True)
    return load(name, machine, flags)
