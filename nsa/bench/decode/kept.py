"""What timed steps of one arm gave and wrote, kept for the judge; each step has a hidden state of its own."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nsa.attention.layer import Step
from nsa.bench.decode.arms import ARMS
from nsa.bench.decode.cell import Cell
from nsa.records.words import OTHER


class Taken(NamedTuple):
    """Copies of one step's results, made right behind it."""

    which: int  # of the cell's fresh hidden states
    output: torch.Tensor  # [B, dim]
    q: torch.Tensor  # [B, G, h, D]
    blocks: torch.Tensor | None  # [B, G, n]
    seq_lens: torch.Tensor  # [B]
    k: torch.Tensor  # [3, B, G, D]: the token that was appended
    v: torch.Tensor  # [3, B, G, Dv]
    k_cmp: torch.Tensor | None  # [B, G, D]: the compressed token that was emitted
    v_cmp: torch.Tensor | None  # [B, G, Dv]


class Kept:
    """One arm of the step at S, or at its neighbour, and copies of what the steps gave that are to be judged.

    Attributes:
        output: what a graph's replays write, poisoned before each; None of eager steps, whose output is new.
        taken: the copies.
    """

    def __init__(self, cell: Cell, arm: str, emits: bool) -> None:
        self.cell, self.name, self.arm, self.emits = cell, arm, ARMS[arm.partition(OTHER)[0]], emits
        self.output: torch.Tensor | None = None
        self.taken: list[Taken] = []
        self._step: Step | None = None

    def run(self) -> torch.Tensor:
        """The step alone: what is captured and timed."""
        self._step = self.cell.step(self.name, self.emits)
        return self._step.output

    def restore(self) -> None:
        """Return to the state before the step, on the host as well, with a hidden state that no kept step had."""
        self.cell.restore(self.emits)
        self._poison()

    def rewind(self) -> None:
        """The same before a replay, without waiting for the device."""
        self.cell.rewind(self.emits)
        self._poison()

    def touch(self) -> None:
        """Read frozen block indices: a step finds its own in the L2, where routing has just written them."""
        if self.arm.frozen:
            self.cell.given[self.emits].sum()

    def keep(self) -> None:
        """Copy what the last step gave and wrote, before anything else runs."""
        assert self._step is not None
        step, cache, cell = self._step, self.cell.cache, self.cell
        output = step.output if self.output is None else self.output
        token, compressed = cell.slots.places[self.emits]
        blocks = step.block_indices.clone() if self.arm.parts.route and step.block_indices is not None else None
        emitted = [
            None if compressed is None else each[:, :, compressed].clone() for each in (cache.k_cmp, cache.v_cmp)
        ]
        appended = [each[:, :, :, token].clone() for each in (cache.k, cache.v)]
        self.taken.append(
            Taken(self._which, output.clone(), step.q.clone(), blocks, cache.seq_lens.clone(), *appended, *emitted)
        )

    @property
    def finite(self) -> bool:
        """Whether all kept outputs are, and so were written."""
        return not self.taken or bool(torch.stack([each.output for each in self.taken]).isfinite().all())

    @property
    def _which(self) -> int:
        return len(self.taken) % len(self.cell.fresh)

    def _poison(self) -> None:
        self.cell.x.copy_(self.cell.fresh[self._which])
        if self.output is not None:
            self.output.fill_(torch.nan)
