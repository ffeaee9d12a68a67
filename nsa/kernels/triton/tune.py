"""Measure which cut is fastest on this device and freeze it; explicit, so that nothing is tuned inside a timed region."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from nsa.kernels.triton.plan import Plan, candidates, freeze
from nsa.kernels.triton.select import describe, run, size_of

Run = Callable[[], torch.Tensor]


def tune(
    time_us: Callable[[Run], float],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> Plan:
    """Time every candidate on one call's inputs, and freeze the fastest for this size, device and software.

    Args:
        time_us: the time of a callable as the benchmark takes it (cold L2, captured); given, for how to time is the
            benchmark's business.
    """
    call = (q, k, v, block_indices, seq_lens, block_size)
    size = size_of(q, v, block_indices, block_size)
    plans = list(candidates(size))
    best = min(plans, key=lambda plan: time_us(partial(run, plan, *call)))
    freeze(size, describe(q.device), best)
    return best
