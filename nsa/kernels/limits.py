"""What every kernel takes, of either contract: sizes and dtypes, and what one tensor of a call must be."""

from __future__ import annotations

import torch

from nsa import shapes
from nsa.errors import InputError

MAX_HEADS_PER_GROUP = shapes.MAX_HEADS_PER_GROUP
MAX_SEL_COUNT = shapes.MAX_SEL_COUNT
HEAD_DIMS = (32, 64, 96, 128, 192, 256)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def check_tensor(name: str, tensor: torch.Tensor, shape: tuple[int, ...], q: torch.Tensor) -> None:
    """Check one tensor of a call beside its query.

    Args:
        name: of the argument.
        tensor: what was given.
        shape: what is expected; a negative size may be any.
        q: the call's query, on whose device the tensor must be.

    Raises:
        InputError: another shape or device.
    """
    if tuple(tensor.shape) != shape:
        expected = ", ".join("any" if size < 0 else str(size) for size in shape)
        raise InputError(f"{name}: got shape {tuple(tensor.shape)}, expected [{expected}] for q {tuple(q.shape)}")
    if tensor.device != q.device:
        raise InputError(f"{name}: on {tensor.device}, expected q's device {q.device}")


def check_head_dims(D: int, Dv: int) -> None:
    """Check the sizes of keys and values, where a kernel is compiled for each.

    Raises:
        InputError: one that is not in HEAD_DIMS.
    """
    if D not in HEAD_DIMS or Dv not in HEAD_DIMS:
        raise InputError(f"D, Dv: got {D} and {Dv}, expected each one of {HEAD_DIMS}")


def check_heads(h: int) -> None:
    """Check the heads of a group.

    Raises:
        InputError: more than MAX_HEADS_PER_GROUP, or none.
    """
    if not 1 <= h <= MAX_HEADS_PER_GROUP:
        raise InputError(f"q: got h = {h} heads a group, expected 1 to {MAX_HEADS_PER_GROUP}")
