"""A decode cell: one layer, one prefilled cache and one token, ready to run any arm from the same state."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import torch

from nsa.attention.cache import KVCache
from nsa.attention.layer import Keys, NsaAttention, Step
from nsa.attention.parts import TORCH, Name, step_parts
from nsa.attention.prefill import fill
from nsa.bench.decode.arms import ARMS, emission
from nsa.bench.method.launches import launched
from nsa.bench.method.reads import compressed_by_parts, selected_by_kernel
from nsa.config import DecodeSettings
from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention
from nsa.kernels.step import Lengths
from nsa.records.facts import Reads
from nsa.records.words import OTHER, TORCH_PARTS, VARIED

FILL_TOKENS = 2048  # hidden states drawn at once in prefill
DIFFERENCE = 4.0  # times the rounding unit: steps of two variants, each of whose outputs is rounded several times


class Cell:
    """Everything one (backend, S) measures; `arm` restores the state, so that repetitions are identical.

    Raises:
        torch.cuda.OutOfMemoryError: the cell does not fit the GPU.
    """

    def __init__(self, settings: DecodeSettings, S: int, select: SelectAttention, device: torch.device) -> None:
        shape = settings.model
        self.settings, self.S, self.select, self.device = settings, S, select, device
        self.parts = parts_of(settings, device)
        self.computed_by = step_parts(self.parts)
        self.steps, self.emit_weight = emission(shape, S)  # {emits: S'}
        dtype: torch.dtype = getattr(torch, settings.dtype.of(device.type))
        longest = max(self.steps.values())
        self.layer = NsaAttention(shape, settings.seed).to(device, dtype)
        capacity = shape.num_blocks(longest + 1) * shape.sel_block
        self.cache = KVCache(shape, settings.batch, capacity, dtype, device)
        generator = torch.Generator(device).manual_seed(settings.seed)

        def draw(*sizes: int) -> torch.Tensor:
            return torch.randn(*sizes, generator=generator, device=device, dtype=torch.float32).to(dtype)

        for start in range(0, longest, FILL_TOKENS):
            tokens = min(FILL_TOKENS, longest - start)
            fill(self.layer, draw(settings.batch, tokens, shape.dim), self.cache)
        self.x = draw(settings.batch, shape.dim)
        self._before = {
            emits: torch.full((settings.batch,), step - 1, dtype=torch.int32, device=device)
            for emits, step in self.steps.items()
        }
        self.variants: dict[str, SelectAttention] = {}
        self.frozen: dict[bool, torch.Tensor] = {}
        self.reads = Reads(cmp=0, sel=0, win=0, actual=0, expected=0)
        for emits, step in self.steps.items():
            full = self.arm("all", emits)
            assert full.block_indices is not None
            self.frozen[emits] = full.block_indices.clone()
            if step == S:
                self.reads = self._count(full)

    def _count(self, full: Step) -> Reads:
        """KV tokens that a full step touches per (sequence, group), averaged over both."""
        shape, cache = self.settings.model, self.cache
        assert full.block_indices is not None
        sizes = (shape.heads_per_group, shape.head_dim, shape.value_dim)
        selected = selected_by_kernel(
            self.select, full.block_indices, cache.seq_lens, shape.sel_block, cache.capacity, sizes, self.x
        )
        lengths = Lengths(cache.seq_lens, cache.max_length, cache.uniform)
        compressed = compressed_by_parts(self.computed_by, lengths, shape, self.x)
        cmp, sel, win = compressed.mean().item(), selected.mean().item(), visible(full.win)
        return Reads(cmp=cmp, sel=sel, win=win, actual=cmp + sel + win, expected=shape.reads_expected(self.S))

    def rewind(self, emits: bool) -> None:
        """Return the device's lengths to the state before the step: before a replay, without waiting for the device."""
        self.cache.seq_lens.copy_(self._before[emits])

    def restore(self, emits: bool) -> None:
        """Return the lengths on both sides to the state before the step."""
        self.cache.set_lengths((self.steps[emits] - 1,) * self.settings.batch)

    def arm(self, name: str, emits: bool) -> Step:
        """Run one arm of the step at S (or its neighbour) from the state before it."""
        self.restore(emits)
        return self.step(name, emits)

    def take_variants(self, variants: Mapping[str, SelectAttention]) -> dict[str, str]:
        """Time the step with these kernels, too; returns those that do not take part, and why.

        One that refuses the cell, or whose whole step differs from the cell's own beyond rounding, does not compete.
        """
        refused: dict[str, str] = {}
        own = {emits: self.arm("all", emits).output.clone() for emits in self.steps}
        allowed = DIFFERENCE * torch.finfo(self.x.dtype).eps
        for name, kernel in variants.items():
            self.variants[name] = kernel
            try:
                error = max(distance(self.arm(f"all{OTHER}{name}", emits).output, own[emits]) for emits in self.steps)
            except InputError as why:
                refused[name] = str(why)
            else:
                if not error <= allowed:
                    refused[name] = (
                        f"its step differs from the cell's own by {error:.2g}, at most {allowed:.2g} is rounding"
                    )
            if name in refused:
                del self.variants[name]
        return refused

    @property
    def arms(self) -> list[str]:
        """What is timed of this cell: every arm, and those that a variant or the torch parts change."""
        others = [f"{arm}{OTHER}{name}" for name in self.variants for arm in VARIED]
        if self.variants and self.parts != TORCH.name:
            others.append(f"all{OTHER}{TORCH_PARTS}")
        return [*ARMS, *others]

    def launches(self, name: str) -> list[str]:
        """What an arm launches, by name, in an untimed pass."""
        emits = next(iter(self.steps))
        self.restore(emits)
        return launched(lambda: self.step(name, emits), self.device)

    def step(self, name: str, emits: bool) -> Step:
        """The arm alone, from the lengths as they are: what is captured and timed."""
        name, _, other = name.partition(OTHER)
        arm, select = ARMS[name], self.variants.get(other, self.select)
        computed_by = TORCH if other == TORCH_PARTS else self.computed_by
        frozen = self.frozen[emits] if arm.frozen else None
        return self.layer.step(self.x, self.cache, select, arm.parts, frozen, computed_by)

    def finite_when_poisoned(self) -> bool:
        """Whether every arm's output stays finite while all tokens beyond its length are NaN."""
        finite, shape, cache = True, self.settings.model, self.cache
        tensors = (cache.k, cache.v, cache.k_cmp, cache.v_cmp)
        for emits, step in self.steps.items():
            beyond = (step, step, shape.num_compressed(step), shape.num_compressed(step))
            kept = [tensor[..., first:, :].clone() for tensor, first in zip(tensors, beyond, strict=True)]
            for tensor, first in zip(tensors, beyond, strict=True):
                tensor[..., first:, :] = torch.nan
            for name in self.arms:
                finite &= bool(self.arm(name, emits).output.isfinite().all())
            for tensor, first, old in zip(tensors, beyond, kept, strict=True):
                tensor[..., first:, :] = old
        return finite

    @property
    def bytes_read(self) -> int:
        """KV bytes that one full step touches: counted tokens, (D + Dv) values each, over all sequences and groups."""
        shape, size = self.settings.model, self.x.element_size()
        per_token = (shape.head_dim + shape.value_dim) * size * shape.groups * self.settings.batch
        return round(self.reads.actual * per_token)


def parts_of(settings: DecodeSettings, device: torch.device) -> Name:
    """Which way compressed attention and routing are computed: the fastest that this device and installation have."""
    best = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    return "triton" if best and settings.parts == "best" else "torch"


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """The relative L2 distance of the worst row of two outputs [B, dim]; NaN where one is not finite."""
    a, b = a.double(), b.double()
    return float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max())


def visible(keys: Keys | None) -> float:
    """Key tokens that at least one query row of the group sees, averaged over sequences and groups."""
    if keys is None:
        return 0.0
    B, G, M, _ = keys.keys.shape
    if keys.mask is None:
        return float(M)
    seen = keys.mask.any(-2)  # [B or 1, G or 1, M]
    return seen.expand(B, G, M).sum(-1).double().mean().item()
