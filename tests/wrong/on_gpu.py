"""Kernels that cheat with what only a GPU has: streams, graphs, and times that decide."""

from __future__ import annotations

import torch
from wrong.cheats_graph import PATIENCE, Captured
from wrong.entry import Entry
from wrong.kernels import right

from nsa.bench.method.inputs import Call
from nsa.kernels.sdpa.packed import gather

EVENLY = 16  # rows that are packed anew, of the 32 of the grid that a GPU tries


class OnAnotherStream:
    """Works on a stream of its own, which the caller's does not wait for."""

    def __init__(self) -> None:
        self.stream: torch.cuda.Stream | None = None
        self.alive: list[torch.Tensor] = []  # what is written late is nobody else's memory

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        if torch.cuda.is_current_stream_capturing():
            return right(*arguments)
        done, self.stream = right(*arguments), self.stream or torch.cuda.Stream(call.q.device)
        o = torch.empty(*call.q.shape[:3], call.v.shape[3], dtype=call.q.dtype, device=call.q.device)
        self.stream.wait_stream(torch.cuda.current_stream(call.q.device))
        with torch.cuda.stream(self.stream):
            torch.cuda._sleep(2_000_000)
            o.copy_(done)
        self.alive += [o, done]
        return o


class OutsideTheGraph:
    """Computes when it is captured, outside of the graph, which then copies what is there."""

    def __init__(self) -> None:
        self.kept: dict[int, torch.Tensor] = {}

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        key = call.q.data_ptr()
        if not torch.cuda.is_current_stream_capturing():
            self.kept[key] = right(*arguments)
        return self.kept[key].clone()


class PackedFromTheSecondShape:
    """A kernel of its own on the first sizes that it sees, packed SDPA on all others."""

    def __init__(self) -> None:
        self.first: tuple[object, ...] | None = None

    def __call__(self, *arguments: object) -> torch.Tensor:
        call = Call(*arguments)
        sizes = (call.q.shape[2:], call.v.shape[3], call.block_indices.shape[2])
        self.first = self.first or sizes
        return right(*arguments) if sizes == self.first else gather(*arguments)


def repacks_evenly_spaced_rows(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    """After the first replays K and V stay packed, but for rows at even distances, in which a check may change them."""
    B, G = call.q.shape[:2]
    known = torch.zeros(B * G, dtype=torch.bool, device=call.q.device)
    rows = torch.linspace(0, B * G - 1, min(EVENLY, B * G), device=call.q.device).long()
    known.index_fill_(0, rows, True)
    fresh = (known.view(B, G, 1, 1) | (count <= PATIENCE)).expand(B, G, 1, 1)
    for now, packed in zip(call[1:3], captured[1:3], strict=True):
        packed.copy_(torch.where(fresh, now, packed))
    return right(*call._replace(k=captured.k, v=captured.v))


def half_of_the_blocks(call: Call, captured: Call, count: torch.Tensor) -> torch.Tensor:
    """Reads half of what it must in its graph."""
    n = call.block_indices.shape[-1]
    return right(*call._replace(block_indices=call.block_indices[..., : n // 2].contiguous()))


GPU_CHEATS: dict[str, Entry] = {
    "works on a stream that nobody waits for": Entry(OnAnotherStream, "first sight", "not finite", on="cuda"),
    "computes outside of its graph": Entry(OutsideTheGraph, "unseen inputs", on="cuda"),
    "is packed SDPA from the second shape on": Entry(PackedFromTheSecondShape, "speed", "speedup", on="cuda"),
    "packs K and V once, and again where it expects a change": Entry(
        lambda: Captured(repacks_evenly_spaced_rows), "timed outputs", on="cuda"
    ),
    "reads half of the blocks in its graph": Entry(lambda: Captured(half_of_the_blocks), "unseen inputs", on="cuda"),
}
