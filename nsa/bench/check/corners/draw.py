"""What a corner case draws its inputs with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import torch

from nsa.bench.method.inputs import Call, draw_call
from nsa.records.shapes import CheckShape

BATCH = 3  # sequences of a case that does not ask for another number


class Sizes(TypedDict, total=False):
    """Sizes in which a case differs from the run's own; see CheckShape."""

    heads_per_group: int
    head_dim: int
    value_dim: int
    sel_count: int
    sel_block: int
    context: int
    groups: int
    dtype: str


@dataclass(frozen=True)
class Drawn:
    """A call, and the sizes that its rows of the record have."""

    shape: CheckShape
    call: Call

    def changed(self, **tensors: torch.Tensor) -> Drawn:
        """With other tensors of the same sizes."""
        return replace(self, call=Call(**{**self.call._asdict(), **tensors}))


class Draw:
    """Draws the inputs of one case: the same for the same seed, case and device.

    Args:
        base: the sizes of a case that asks for no others.
        seed: of the run.
        case: its name; cases draw independently of each other.
        device: of all tensors.
    """

    def __init__(self, base: CheckShape, seed: int, case: str, device: torch.device) -> None:
        self.base, self.device = base, device
        self.random = random.Random(f"{seed}/{case}")
        self.generator = torch.Generator(device).manual_seed(self.random.getrandbits(62))

    def shape(self, batch: int = BATCH, **sizes: Unpack[Sizes]) -> CheckShape:
        """The run's own sizes, but for some."""
        groups = sizes.get("groups", self.base.groups)
        return replace(self.base, **sizes, rows=batch * groups)

    def full(self, batch: int = BATCH, **sizes: Unpack[Sizes]) -> Drawn:
        """Every sequence as long as the caches, every row with n blocks."""
        shape = self.shape(batch, **sizes)
        return self.of_lengths([shape.context] * batch, **sizes)

    def ragged(self, batch: int = BATCH, **sizes: Unpack[Sizes]) -> Drawn:
        """The first sequence as long as the caches, the others of any length, and any number of blocks in their rows.

        No row is empty, and no sequence longer than the first.
        """
        shape = self.shape(batch, **sizes)
        lengths = [shape.context] + [
            self.random.randint(shape.context // 2, shape.context - 1) for _ in range(1, batch)
        ]
        count = torch.randint(
            1, shape.sel_count + 1, (batch, shape.groups), generator=self.generator, device=self.device
        )
        count[0] = shape.sel_count
        return self._drawn(shape, lengths, count)

    def of_lengths(self, lengths: Sequence[int], **sizes: Unpack[Sizes]) -> Drawn:
        """Sequences of these lengths, every row with n blocks or with all that there are."""
        shape = self.shape(len(lengths), **sizes)
        count = torch.full((len(lengths), shape.groups), shape.sel_count, device=self.device)
        return self._drawn(shape, lengths, count)

    def normal(self, *sizes: int) -> torch.Tensor:
        """Standard normal numbers in float32."""
        return torch.randn(*sizes, generator=self.generator, device=self.device)

    def _drawn(self, shape: CheckShape, lengths: Sequence[int], count: torch.Tensor) -> Drawn:
        seq_lens = torch.tensor(lengths, dtype=torch.int32, device=self.device)
        return Drawn(shape, draw_call(shape, seq_lens, count, self.generator))
