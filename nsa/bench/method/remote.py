"""What a kernel in a process of its own offers beside its calls: what its caller could not see from another process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch

from nsa.bench.method.inputs import Call
from nsa.bench.method.launches import launched
from nsa.kernels.contract import SelectAttention

if TYPE_CHECKING:
    from nsa.bench.method.candidate import KernelCandidate, Returned
    from nsa.bench.method.replays import Replays
    from nsa.records.words import Row


class RemoteKernel(ABC):
    """A SelectAttention that runs elsewhere.

    A call gives the kernel copies of its inputs, strides kept, and returns a copy of its output. What the kernel did to
    its inputs is done to the caller's, too.
    """

    @abstractmethod
    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        block_indices: torch.Tensor,
        seq_lens: torch.Tensor,
        block_size: int,
    ) -> torch.Tensor:
        """One call; raises as nsa.bench.method.failures.guarded does."""

    @abstractmethod
    def having_taken(self) -> RemoteKernel:
        """The same kernel after it took such a call: to refuse one now is a failure."""

    @abstractmethod
    def together(self, calls: Sequence[Call]) -> list[torch.Tensor]:
        """Several calls; no output is copied before all of them are made."""

    @abstractmethod
    def launched(self, call: Call) -> list[str]:
        """What a call launches, as nsa.bench.method.launches.launched says it."""

    @abstractmethod
    def prepare(self, columns: Row, replays: Replays, returned: Returned) -> KernelCandidate:
        """Make the kernel ready to be timed on the call of some replays."""


def together(kernel: SelectAttention, calls: Sequence[Call]) -> list[torch.Tensor]:
    """The outputs of several calls, copied after the last one: a kernel that returns one buffer each time shows."""
    if isinstance(kernel, RemoteKernel):
        return kernel.together(calls)
    outputs = [kernel(*call) for call in calls]
    return [output.clone() for output in outputs]


def launched_by(kernel: SelectAttention, call: Call) -> list[str]:
    """What one call of a kernel launches, in whatever process it runs."""
    if isinstance(kernel, RemoteKernel):
        return kernel.launched(call)
    return launched(partial(kernel, *call), call.q.device)
