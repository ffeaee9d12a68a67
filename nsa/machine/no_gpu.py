"""Why torch has no CUDA device, and what to do about it: the driver may well show a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from nsa.machine.fingerprint import VISIBLE, Gpus

FROM_AN_INDEX = "python -m pip install --force-reinstall 'torch>=2.11'"


@dataclass(frozen=True)
class NoGpu:
    """Every reason, in one line, and the first thing to do."""

    reason: str
    fix: str


def explain(gpus: Gpus, environ: Mapping[str, str]) -> NoGpu:
    """Ask torch, which has no CUDA device here, and the driver.

    Args:
        gpus: what the driver shows.
        environ: where CUDA_VISIBLE_DEVICES is read.
    """
    import torch

    reasons = [f"no NVIDIA driver answers ({gpus.reason})"] if gpus.driver is None else list(gpus.lost)
    built_for = torch.version.cuda
    if built_for is None:
        reasons.append(f"torch {torch.__version__} has no CUDA support")
    if not reasons:
        try:
            torch.cuda.current_device()
        except RuntimeError as error:  # such as a driver too old, or CUDA_VISIBLE_DEVICES hiding every GPU
            reasons.append(f"torch finds no usable GPU ({' '.join(str(error).split())})")
    reason = "; ".join(reasons)
    return NoGpu(reason, _fix(reason, built_for, gpus, environ))


def _fix(reason: str, built_for: str | None, gpus: Gpus, environ: Mapping[str, str]) -> str:
    if gpus.driver is None:
        return "run on a machine with an NVIDIA GPU, where `nvidia-smi` lists it"
    if not gpus.devices:
        return "see what `nvidia-smi` says: a GPU that does not answer needs a reset, or your user the right to open it"
    if built_for is None:
        return f"install a torch with CUDA (`{FROM_AN_INDEX}`, from an index that has one)"
    if "driver" in reason and "too old" in reason:
        return f"update the NVIDIA driver ({gpus.driver}) to CUDA {built_for}, or install a torch for an older CUDA"
    if VISIBLE in environ and not gpus.visible(environ):
        return f"unset {VISIBLE}={environ[VISIBLE]}, which hides every GPU, or name one of `nvidia-smi -L` in it"
    return "see what `nvidia-smi` says, mend it, and ask `python -m nsa env` again"
