"""What a whole check tries, by the names that its record has: corner cases with their calls, and rivals.

The names stand here a second time, as the report knows no bench: a record that lacks one of them is not whole.
tests/records/test_tried.py holds them against what the bench tries.
"""

from __future__ import annotations

from nsa.records.words import DENSE, VARIANT

DTYPES = ("float16", "bfloat16", "float32")
DENSE_RIVALS = tuple(f"{DENSE}{name}" for name in ("flash", "cudnn", "efficient", "flashinfer", "fa3"))
PACKED_RIVALS = tuple(f"{VARIANT}{name}" for name in ("gather", "index_select", "blocks", "varlen"))
OF_CHECK = (
    *("h = 1", "h = 3", "h = 5", "h = 16", "one group", "two groups", "one sequence", "blocks of 16", "blocks of 128"),
    *("n = 1", "odd n", "D < Dv", "D > Dv", "near the grid", "q strided", "k and v strided", "v strided"),
    *("layout [B, S, G, D]", "large values in float16", "more than 2^31 numbers", "blocks beyond 2^15"),
    *("queries x 8 and x 30", "tail of small probabilities", "low scores", "sink"),
    *("equal queries", "equal keys", "equal scores", "equal values"),
    *("infinity beyond the lengths", "NaN in other blocks", "no blocks", "single tokens", "unlike lengths"),
    *("borders of blocks", "one token in the last block"),
    *("large before small", "small before large", "two outputs held"),
)
OF_CORE = (
    *("h = 1", "h = 3", "h = 5", "h = 16", "one group", "three groups", "one sequence", "many sequences"),
    *("D < Dv", "D > Dv", *(f"D = Dv = {D}" for D in (32, 64, 96, 128, 192, 256))),
    *("n = 3", "n = 7", "n = 33", "n = 128", "n above the blocks", "l' = 32", "l' = 128", "l' = 5 d"),
    *("l = d", "l = 3 d", "l = 4 d", "l beyond l'", "d = 8", "w = 0", "w = 1", "w beyond the caches"),
    *("caches below l", "blocks beyond 2^15", *(f"in {dtype}" for dtype in DTYPES)),
    *(f"sizes that are drawn, {which}" for which in ("one", "two", "three", "four")),
    *("caches in one tensor", "caches as [B, S, G, D]", "queries and gates apart", "caches apart", "values apart"),
    *("more room than compressed tokens", "without sel", "cmp alone", "cmp and route", "sel alone", "win alone"),
    *("blocks that are given", "queries x 8", "queries x 30", "queries x 30, one sequence"),
    *("queries x 30, many sequences", "queries x 0.001, many sequences", "blocks of equal importance"),
    *("low scores", "tail of small probabilities", "topics", "sinks", "gates near 0", "gates of 0 and 1"),
    *("large values in float16", "fewer blocks than n", "no compressed token", "no token", "no token anywhere"),
    *("borders of blocks", "borders of all sizes", "infinity beyond the lengths", "numbers beyond the lengths"),
    *("shorter, then longer", "longer, then shorter"),
)
CHECK_CALLS = {  # of the cases of more than one call
    "near the grid": 3,
    "queries x 8 and x 30": 2,
    "large before small": 2,
    "small before large": 2,
    "two outputs held": 2,
}
CORE_CALLS = {"shorter, then longer": 2, "longer, then shorter": 2}


def check_corners(dtype: str) -> dict[str, int]:
    """The corner cases of a kernel check in one dtype, and how many calls each is."""
    others = tuple(f"in {other}" for other in DTYPES if other != dtype)
    return {case: CHECK_CALLS.get(case, 1) for case in (*OF_CHECK, *others)}


def core_corners() -> dict[str, int]:
    """Those of a core check."""
    return {case: CORE_CALLS.get(case, 1) for case in OF_CORE}
