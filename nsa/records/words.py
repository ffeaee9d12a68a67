"""The words that records hold, and a row of a table; whoever measures needs no Arrow for them."""

from __future__ import annotations

from collections.abc import Mapping

Scalar = str | int | float | bool | None
Row = Mapping[str, Scalar]  # one row of a table: a missing column is null

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PARTS = ("cmp", "sel", "win")  # the branches, whose shares the guide's table shows
ARMS = ("none", "cmp", "cmp_route", "sel", "win", "all", "all_without_sel", "all_again")  # what every cell times
EMPTY = "empty"  # a captured graph with one trivial kernel: the floor of the method, CUDA only
BASELINE = "sdpa"  # packed SDPA, with which every kernel is compared
VARIANT = f"{BASELINE}:"  # before the name of one of its variants, which compete in a kernel check
PACKED = f"{VARIANT}gather"  # the variant that errors are compared with: it takes every shape and stride
AGAIN = "again:"  # before the name of the A/A control of a kernel: the same, captured and timed a second time
