"""Memory that the judge owns and the candidate's process sees, and where in it tensors lie.

Handles are sent once, for whole segments (CUDA IPC on a GPU, shared memory on a CPU); a tensor is then a Place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

ALIGNMENT = 512  # bytes, as torch's own allocator aligns

Segments = Mapping[int, torch.Tensor]  # flat uint8, by number
Mark = tuple[int, int]  # how many segments, and how far into the last one


@dataclass(frozen=True)
class Place:
    """A tensor in a segment."""

    segment: int
    offset: int  # bytes
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def view(self, segments: Segments) -> torch.Tensor:
        """The tensor."""
        size = _extent(self.shape, self.stride) * self.dtype.itemsize
        flat = segments[self.segment][self.offset : self.offset + size].view(self.dtype)
        return flat.as_strided(self.shape, self.stride)


def bytes_of(tensors: Sequence[torch.Tensor]) -> int:
    """What some tensors take in a segment."""
    return sum(_padded(_extent(each.shape, each.stride()) * each.itemsize) for each in tensors)


class Arena:
    """Segments of the judge, used from the front to the back and given back in that order.

    Args:
        device: of the memory.
        share: tells the other process of a new segment (a number and its tensor), or that one is gone (None).
        reserve: bytes of the first segment; a tensor that does not fit makes another one.
    """

    def __init__(self, device: torch.device, share: Callable[[int, torch.Tensor | None], object], reserve: int) -> None:
        self._device, self._share, self._reserve = device, share, reserve
        self._segments: dict[int, torch.Tensor] = {}
        self._used = 0  # of the last segment
        self._made = 0
        if device.type == "cuda":  # such segments have no handle for another process
            torch.cuda.memory._set_allocator_settings("expandable_segments:False")

    @property
    def segments(self) -> Segments:
        """The memory, by number."""
        return self._segments

    def mark(self) -> Mark:
        """Where the free memory begins."""
        return len(self._segments), self._used

    def back(self, mark: Mark) -> None:
        """Give back all that was placed since; the first segment stays."""
        count, used = mark
        for number in list(self._segments)[max(count, 1) :]:
            self._drop(number)
        self._used = used

    def room(self, size: int) -> None:
        """Make room for so many bytes, in one segment."""
        if self._segments and self._used + size <= len(self._last()):
            return
        if self._segments and self._used == 0:
            self._drop(next(reversed(self._segments)))
        number, self._made, self._used = self._made, self._made + 1, 0
        segment = torch.empty(max(size, self._reserve), dtype=torch.uint8, device=self._device)
        self._segments[number] = segment if self._device.type == "cuda" else segment.share_memory_()
        self._share(number, self._segments[number])

    def place(self, tensor: torch.Tensor) -> Place:
        """Copy a tensor, its strides kept."""
        place = self._new(tuple(tensor.shape), tensor.stride(), tensor.dtype)
        self.write(place, tensor)
        return place

    def write(self, place: Place, tensor: torch.Tensor) -> None:
        """Copy another tensor of the same shape and strides to a place, the memory between its elements included."""
        target, size = place.view(self._segments), (_extent(place.shape, place.stride),)
        target.as_strided(size, (1,)).copy_(tensor.as_strided(size, (1,)))

    def poisoned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Place:
        """A contiguous tensor full of what no right output holds: NaN, or the smallest integer."""
        place = self._new(shape, torch.empty(shape, device="meta").stride(), dtype)
        self.poison(place)
        return place

    def poison(self, place: Place) -> None:
        """Write that once more."""
        place.view(self._segments).fill_(torch.nan if place.dtype.is_floating_point else torch.iinfo(place.dtype).min)

    def view(self, place: Place) -> torch.Tensor:
        """What lies at a place, now."""
        return place.view(self._segments)

    def _new(self, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Place:
        size = _padded(_extent(shape, stride) * dtype.itemsize)
        self.room(size)
        place = Place(next(reversed(self._segments)), self._used, shape, stride, dtype)
        self._used += size
        return place

    def _last(self) -> torch.Tensor:
        return self._segments[next(reversed(self._segments))]

    def _drop(self, number: int) -> None:
        self._share(number, None)
        del self._segments[number]
        if self._device.type == "cuda":
            torch.cuda.ipc_collect()


def _extent(shape: Sequence[int], stride: Sequence[int]) -> int:
    """Elements from the first to the last one of a tensor, those in between included."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
