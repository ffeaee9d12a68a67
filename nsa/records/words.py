"""The words that records hold, and a row of a table; whoever measures needs no Arrow for them."""

from __future__ import annotations

from collections.abc import Mapping

FILES = "files"  # of gate.json: the digests of what the report wrote beside it, by name
Scalar = str | int | float | bool | None
Row = Mapping[str, Scalar]  # one row of a table: a missing column is null

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
PARTS = ("cmp", "sel", "win")  # the branches, whose shares the guide's table shows
STEP = ("cmp", "route", "sel", "win")  # the parts of a step that an arm may leave out
ARMS = {  # what every cell times, and the parts that run in it
    "none": (),
    "cmp": ("cmp",),
    "cmp_route": ("cmp", "route"),
    "sel": ("sel",),
    "win": ("win",),
    "all": STEP,
    "all_without_sel": ("cmp", "route", "win"),
    "all_again": STEP,  # the A/A control: the same arm under another name
}
OTHER = "@"  # between an arm and what computes it in another way than the cell's own: a variant, or TORCH_PARTS
TORCH_PARTS = "torch parts"  # a step of torch operators but for selection, where the cell's own has kernels
VARIED = ("all", "sel")  # the arms that a variant of the selection changes, and that its share needs
CONTROL = "control:"  # before the name of fixed work of the harness's own, timed in every block, CUDA only
TRAIN, STREAM = CONTROLS = (f"{CONTROL}train", f"{CONTROL}copy")  # small launches, and bytes copied
EMPTY = "empty"  # a captured graph with one trivial kernel: the floor of the method, CUDA only
BASELINE = "sdpa"  # packed SDPA, with which every kernel is compared
VARIANT = f"{BASELINE}:"  # before the name of one of its variants, which compete in a kernel check
PACKED = f"{VARIANT}gather"  # the variant that errors are compared with: it takes every shape and stride
REFUSED = "refused: "  # begins the fault of a kernel that does not take a shape
FAILED = "failed: "  # begins the fault of a kernel that raises an error on a corner case
SKIPPED = "skipped: "  # begins the fault of a corner case that cannot be run here, whatever the kernel
AGAIN = "again:"  # before the name of the A/A control of a kernel: the same, captured and timed a second time
COMPOSED = "composed"  # the core of packed SDPA and torch's operators, with whose error a core's is compared
DENSE = "dense:"  # before the name of a kernel of dense attention over the same caches
EVERY_SHAPE = "every shape"  # on which a kernel that is not installed is left out
TIMED, UNSEEN = "timed", "unseen"  # cases of a core check: the timed calls, and inputs that the graph has never seen
KEYS = ("noise", "topics", "sinks")  # how keys are drawn: independently, in runs of one topic, with sinks in front
