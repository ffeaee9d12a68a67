"""The tiles of matrix instructions; no torch, so that plans are made without it."""

from __future__ import annotations


def padded(width: int) -> int:
    """The power of two, at least the 16 of a matrix instruction, that a dimension is padded to."""
    return max(16, 1 << (width - 1).bit_length())
