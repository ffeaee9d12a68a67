"""Relative errors as records hold them: the worst, and None where something is not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

Errors = dict[str, float | None]


def worst(found: torch.Tensor, exact: torch.Tensor) -> float | None:
    """The largest ‖found - exact‖ / ‖exact‖ over the last dimension; where exact is zero, found must be, too.

    None where found is not finite, or has another shape.
    """
    if found.shape != exact.shape:
        return None
    error, norm = (found.double() - exact).norm(dim=-1), exact.norm(dim=-1)
    relative = torch.where(norm > 0, error / norm, torch.where(error > 0, math.inf, error))
    largest = float(relative.max())
    return largest if math.isfinite(largest) else None


def worse(first: Errors, second: Mapping[str, float | None]) -> Errors:
    """By name, the larger of two errors; None is the largest."""
    found = dict(first)
    for name, error in second.items():
        old = found.get(name, 0.0)
        found[name] = None if old is None or error is None else max(old, error)
    return found
