"""Triton's interpreter, faster: what it patches into Triton's language stays there.

By itself it patches the language for each launch and each call of a device function, a quarter of its time, and takes
that back after each launch. Here a process that interprets kernels compiles none.
"""

from __future__ import annotations

from collections.abc import Callable

import triton.language as tl
from triton.runtime import interpreter


class Kept:
    """What there is to restore after a launch: nothing."""

    def restore(self) -> None:
        """Leave the language as it is."""


def patch_once() -> None:
    """Let the interpreter patch each of the language's modules by the first kernel that uses it, and never again."""
    patch, patched = interpreter._patch_lang, set[str]()

    def once(kernel: Callable[..., object]) -> Kept:
        used = {lang.__name__ for lang in (tl, tl.core) if any(lang is each for each in kernel.__globals__.values())}
        if not used <= patched:
            patch(kernel)
            patched.update(used)
        return Kept()

    interpreter._patch_lang = once
