"""FlashAttention-2 as a backend: where it runs, and by which of the two libraries that have it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.guards import require_cuda
from nsa.machine.host import Artifact, Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend, SelectAttention

CAPABILITY = (8, 0)  # the oldest that FlashAttention-2 runs on
NEITHER = "neither PyTorch's FlashAttention (torch.nn.attention.varlen) nor the flash_attn package is there"
FIX = "install torch 2.11 or later with CUDA, or flash-attn"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable: without a CUDA device, below capability 8.0, without FlashAttention."""
    require_cuda("fa2", machine)
    assert machine.capability is not None  # require_cuda
    if machine.capability < CAPABILITY:
        has, needs = (".".join(map(str, capability)) for capability in (machine.capability, CAPABILITY))
        reason = f"FlashAttention-2 needs compute capability {needs}, this GPU has {has}"
        raise BackendUnavailable("fa2", reason, "run on an Ampere GPU or newer")
    if not (_torch_has_varlen() or importlib.util.find_spec("flash_attn")):
        raise BackendUnavailable("fa2", NEITHER, FIX)


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """FlashAttention by PyTorch, which every machine has in the same version as its torch; else by flash_attn.

    Both are variants where both are there.
    """
    import torch

    from nsa.kernels import varlen
    from nsa.kernels.contract import Backend

    kernels: dict[str, SelectAttention] = {}
    if _torch_has_varlen() and torch.backends.cuda.is_flash_attention_available():
        kernels["torch"] = varlen.flash
    if importlib.util.find_spec("flash_attn"):
        from nsa.kernels.fa2 import package

        kernels["flash_attn"] = package.select_attention
    if not kernels:
        raise BackendUnavailable("fa2", f"{NEITHER}: this torch was built without it", FIX)
    return Backend("fa2", next(iter(kernels.values())), kernels)


def _torch_has_varlen() -> bool:
    """Whether the installed torch has the module; torch itself stays unimported, which takes seconds."""
    torch = importlib.util.find_spec("torch")
    return torch is not None and (Path(str(torch.origin)).parent / "nn" / "attention" / "varlen.py").is_file()
