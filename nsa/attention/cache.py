"""The caches of one layer: allocated once at capacity, appended in place, lengths never read back to the host."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nsa.errors import CapacityError
from nsa.shapes import NsaShape

CMP, SEL, WIN = 0, 1, 2  # the branches' places in k and v


class KVCache:
    """Keys and values of B sequences for the three branches, and their compressed tokens.

    The lengths live twice: `lengths` on the host, which decides slices and launches, and `seq_lens` [B] int32 on the
    device, which kernels read. Both only ever move together, so that no step waits for the device.

    Attributes:
        k, v: [3, B, G, capacity, D] and [3, B, G, capacity, Dv], branches in the order CMP, SEL, WIN.
        k_cmp, v_cmp: [B, G, capacity_cmp, D] and [B, G, capacity_cmp, Dv].
    """

    def __init__(self, shape: NsaShape, batch: int, capacity: int, dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.batch, self.capacity, self.dtype = shape, batch, capacity, dtype
        G, D, Dv = shape.groups, shape.head_dim, shape.value_dim
        self.k = torch.zeros(3, batch, G, capacity, D, dtype=dtype, device=device)
        self.device = self.k.device  # with its index: "cuda" is not equal to "cuda:0"
        self.v = torch.zeros(3, batch, G, capacity, Dv, dtype=dtype, device=device)
        capacity_cmp = max(shape.num_compressed(capacity), 1)
        self.k_cmp = torch.zeros(batch, G, capacity_cmp, D, dtype=dtype, device=device)
        self.v_cmp = torch.zeros(batch, G, capacity_cmp, Dv, dtype=dtype, device=device)
        self.no_output = torch.zeros(batch, shape.heads * Dv, dtype=dtype, device=device)  # when every branch is off
        self.lengths: tuple[int, ...] = (0,) * batch
        self.seq_lens = torch.zeros(batch, dtype=torch.int32, device=device)
        self.arrived = torch.zeros_like(
            self.seq_lens
        )  # thread blocks of a token's kernel that are done; 0 between steps

    @property
    def uniform(self) -> bool:
        """Whether every sequence has the same length."""
        return len(set(self.lengths)) == 1

    @property
    def max_length(self) -> int:
        """The longest sequence's tokens."""
        return max(self.lengths)

    def set_lengths(self, lengths: Sequence[int]) -> None:
        """Move to given lengths, to rewind or to make a batch ragged; what lies beyond them is never read."""
        self.require_room(lengths)
        self.lengths = tuple(lengths)
        self.seq_lens.copy_(torch.tensor(self.lengths, dtype=torch.int32))

    def advance(self) -> None:
        """Make room for one more token in every sequence; captures into a CUDA graph."""
        self.reserve()
        self.seq_lens.add_(1)

    def reserve(self) -> None:
        """The same on the host alone, where a kernel moves the lengths on the device."""
        grown = tuple(length + 1 for length in self.lengths)
        self.require_room(grown)
        self.lengths = grown

    def write_token(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """Store the current token, k [B, 3, G, D] and v [B, 3, G, Dv], at position length - 1 of each sequence."""
        if self.uniform:
            t = self.lengths[0] - 1
            self.k[:, :, :, t] = k.transpose(0, 1)
            self.v[:, :, :, t] = v.transpose(0, 1)
        else:
            sequence = torch.arange(self.batch, device=self.device)
            self.k[:, sequence, :, self.seq_lens - 1] = k  # split indices put [B] first: [B, 3, G, D]
            self.v[:, sequence, :, self.seq_lens - 1] = v

    def write_chunk(self, k: torch.Tensor, v: torch.Tensor) -> None:
        """Append T tokens, k [B, T, 3, G, D] and v [B, T, 3, G, Dv], to sequences of one length; not the lengths."""
        start, stop = self.lengths[0], self.lengths[0] + k.shape[1]
        self.k[:, :, :, start:stop] = k.permute(2, 0, 3, 1, 4)
        self.v[:, :, :, start:stop] = v.permute(2, 0, 3, 1, 4)

    def require_room(self, lengths: Sequence[int]) -> None:
        """Raise a CapacityError where a length does not fit."""
        if max(lengths) > self.capacity or min(lengths) < 0:
            raise CapacityError(f"lengths: got {list(lengths)}, expected 0 to the cache's capacity of {self.capacity}")
