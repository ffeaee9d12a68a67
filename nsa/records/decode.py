"""What a decode cell says, typed as every record's facts are."""

from __future__ import annotations

from typing import Annotated, Literal

from nsa.records.facts import LeftOut, TimedFacts
from nsa.records.merge import Merge, Model


class Geometry(Model):
    """The layer and the step of one decode cell; see nsa.shapes for the paper's symbols."""

    S: int
    batch: int
    dim: int
    heads: int
    groups: int
    head_dim: int
    value_dim: int
    cmp_block: int
    cmp_stride: int
    sel_block: int
    sel_count: int
    window: int
    phi: str
    dtype: str
    seed: int


class Reads(Model):
    """KV tokens that one step touches per (sequence, group): counted in each branch, and the closed form."""

    cmp: float
    sel: float
    win: float
    actual: float
    expected: float


class Judged(Model):
    """What a float64 step says of the timed steps of one process (docs/decode_cell.md#the-decode-cell-is-judged).

    Errors are the worst relative L2 of a row; None where something is not finite or has the wrong shape.

    Attributes:
        steps: timed steps whose outputs and writes were judged.
        outputs: of each arm.
        states: of queries, of what steps wrote into the caches, and of what prefill left there.
        lengths_right: whether the device's lengths were S after each step.
        caches_kept: whether no step has changed the caches but where it writes.
        rows: (sequence, group) rows of the whole step whose blocks were judged.
        clear: those in which rounding cannot have decided.
        wrong: rows, of any arm with routing, with other blocks than the right ones.
    """

    process: int
    steps: int
    outputs: dict[str, float | None]
    states: dict[str, float | None]
    lengths_right: bool
    caches_kept: bool
    rows: int
    clear: int
    wrong: int


class DecodeFacts(TimedFacts):
    """A decode cell that ran.

    Attributes:
        parts: what computed the step beside selection or the core, torch or triton.
        variant: the backend's own among its variants of packed SDPA; None of a backend without any.
        variants: the others, which were timed beside it.
        left_out: the others that were not, and why.
        emit_weight: share of the steps that add a compressed token.
        outputs_finite: of every arm, its unread memory poisoned, the timed replays included.
        routing_fault: the first case in which routing did not choose the oracle's blocks.
        judged: what a float64 step says of the steps, in each process.
        launches: how often each arm launches each kernel (operator, on a CPU); counted once a cell.
        off_unread: whether no bit of an output changes with the caches of the parts that are off; of a core alone.
    """

    geometry: Annotated[Geometry, Merge.SAME]
    reads: Annotated[Reads, Merge.SAME]
    bytes_read: Annotated[int, Merge.SAME]
    parts: Annotated[Literal["torch", "triton"], Merge.SAME]
    variant: Annotated[str | None, Merge.SAME] = None
    variants: Annotated[tuple[str, ...], Merge.SAME] = ()
    left_out: Annotated[tuple[LeftOut, ...], Merge.UNITED] = ()
    emit_weight: Annotated[float, Merge.SAME]
    outputs_finite: Annotated[bool, Merge.ALL]
    routing_fault: Annotated[str | None, Merge.FIRST]
    judged: Annotated[tuple[Judged, ...], Merge.EACH]
    launches: Annotated[dict[str, dict[str, int]] | None, Merge.FIRST]
    off_unread: Annotated[bool, Merge.ALL] = True
