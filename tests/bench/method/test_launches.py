"""What a call launches, by name."""

from __future__ import annotations

import torch
from standins import CPU

from nsa.bench.method.launches import launched


def test_operators_that_work_are_named_in_order() -> None:
    """Each operator counts as often as it runs; views launch nothing."""
    x = torch.ones(2, 3)
    assert launched(lambda: (x.t().view(3, 2) + 1).exp().exp(), CPU) == ["add.Tensor", "exp", "exp"]
    assert launched(lambda: x[0].expand(4, 3), CPU) == []


def test_memory_that_is_not_written_is_no_launch() -> None:
    """An allocation launches nothing, nor does a number beside a tensor; what fills the memory does."""
    x = torch.ones(2, 3)
    assert launched(lambda: torch.log(x, out=x.new_empty(2, 3)), CPU) == ["log.out"]
    assert launched(lambda: torch.where(x > 0, x, 0), CPU) == ["gt.Scalar", "where.self"]
    assert launched(lambda: x.new_zeros(2), CPU) == ["new_zeros"]
