"""Memory that two processes see: where tensors lie in it, and what is given back."""

from __future__ import annotations

import pytest
import torch
from standins import CPU

from nsa.bench.apart.arena import ALIGNMENT, Arena, bytes_of


class Shared:
    """What the other process has been told."""

    def __init__(self) -> None:
        self.segments: dict[int, torch.Tensor] = {}
        self.told: list[tuple[int, bool]] = []

    def __call__(self, number: int, tensor: torch.Tensor | None) -> None:
        self.told.append((number, tensor is not None))
        if tensor is None:
            del self.segments[number]
        else:
            self.segments[number] = tensor


@pytest.fixture
def shared() -> Shared:
    return Shared()


TENSORS = {
    "contiguous": lambda: torch.randn(3, 4, 5),
    "strided": lambda: torch.randn(3, 4, 10)[:, :, ::2],
    "transposed": lambda: torch.randn(3, 4, 5).transpose(0, 2),
    "part of another": lambda: torch.randn(6, 4)[2:, 1:3],
    "expanded": lambda: torch.randint(9, (1, 1, 4), dtype=torch.int32).expand(2, 3, 4),
    "half": lambda: torch.randn(7).half(),
    "empty": lambda: torch.randn(0, 3),
    "scalar": lambda: torch.randn(()),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_a_tensor_keeps_values_and_strides(kind: str, shared: Shared) -> None:
    """The other process sees the same tensor at its place, and no other was written."""
    arena, tensor = Arena(CPU, shared, 4096), TENSORS[kind]()
    before = arena.place(torch.full((3,), 7.0))
    place = arena.place(tensor)
    after = arena.place(torch.full((3,), 8.0))
    found = place.view(shared.segments)
    assert torch.equal(found, tensor) and (found.dtype, found.stride()) == (tensor.dtype, tensor.stride())
    assert (before.view(shared.segments) == 7).all() and (after.view(shared.segments) == 8).all()
    assert place.offset % ALIGNMENT == 0


def test_what_is_written_is_seen_by_both(shared: Shared) -> None:
    """A place is written anew without another handle, and what the other process writes is read here."""
    arena = Arena(CPU, shared, 4096)
    place = arena.poisoned((2, 3), torch.float32)
    assert place.view(shared.segments).isnan().all()
    arena.write(place, torch.ones(2, 3))
    place.view(shared.segments)[1] = 5
    assert arena.view(place).tolist() == [[1, 1, 1], [5, 5, 5]] and shared.told == [(0, True)]


def test_memory_is_given_back_in_order(shared: Shared) -> None:
    """After a mark's return the same memory is used again; what was placed before it stays."""
    arena = Arena(CPU, shared, 8192)
    kept, mark = arena.place(torch.ones(4)), arena.mark()
    first = arena.place(torch.zeros(4))
    arena.back(mark)
    second = arena.place(torch.full((4,), 2.0))
    assert second.offset == first.offset and arena.view(kept).tolist() == [1] * 4 and len(shared.told) == 1


def test_what_does_not_fit_has_memory_of_its_own_for_as_long_as_it_is_there(shared: Shared) -> None:
    """What lies in the first segment is not moved; the further one is gone with its tensors."""
    arena = Arena(CPU, shared, 4096)
    kept, mark = arena.place(torch.ones(4)), arena.mark()
    large = arena.place(torch.full((5000,), 3.0))
    assert set(shared.segments) == {0, 1} and (large.view(shared.segments) == 3).all()
    assert arena.view(kept).tolist() == [1] * 4
    arena.back(mark)
    assert set(shared.segments) == {0} and shared.told[-1] == (1, False)
    assert arena.place(torch.zeros(4)).segment == 0


def test_an_empty_segment_that_is_too_small_is_replaced(shared: Shared) -> None:
    """No memory is kept beside a larger segment that could serve."""
    arena = Arena(CPU, shared, 4096)
    mark = arena.mark()
    arena.place(torch.ones(4))
    arena.back(mark)
    arena.place(torch.ones(5000))
    assert set(shared.segments) == {1}


def test_room_for_several_tensors_is_in_one_segment(shared: Shared) -> None:
    """What a call needs is known before it is placed."""
    arena, tensors = Arena(CPU, shared, 1024), [torch.ones(200), torch.ones(1), torch.ones(300)]
    arena.room(bytes_of(tensors))
    assert {arena.place(tensor).segment for tensor in tensors} == {0} and bytes_of(tensors) == 1024 + 512 + 1536
