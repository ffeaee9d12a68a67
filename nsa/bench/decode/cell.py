"""A decode cell: one layer, one prefilled cache and one token, ready to run any arm from the same state."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import torch

from nsa.attention.cache import SEL, WIN, KVCache
from nsa.attention.layer import Keys, NsaAttention, Step
from nsa.attention.parts import TORCH, Name, step_parts
from nsa.attention.prefill import fill
from nsa.bench.decode.arms import ARMS, emission
from nsa.bench.decode.marks import marks
from nsa.bench.decode.prefilled import Sample
from nsa.bench.decode.slots import Slots
from nsa.bench.decode.tokens import Tokens
from nsa.bench.method.launches import launched
from nsa.bench.method.reads import compressed_by_parts, read_by_core, selected_by_kernel, window_by_kernel
from nsa.config import DecodeSettings
from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention
from nsa.kernels.core import Core, Parts
from nsa.kernels.step import Lengths
from nsa.records.decode import Reads
from nsa.records.words import OTHER, TORCH_PARTS, VARIED

FILL_TOKENS = 2048  # hidden states drawn at once in prefill
BLOCKS = 4  # randomised blocks that the repetitions of an arm are spread over
UNSEEN = 32.0  # times as large are keys and values that no window reaches any more: to read one shows


class Cell:
    """Everything one (backend, S) measures; `arm` restores the state, so that repetitions are identical.

    Attributes:
        frozen: {emits: the block indices of a full step}, by which the arm without routing is judged.
        given: copies of these, which that arm is given, anew before each step.
        off_unread: whether nothing in the caches of parts that are off changes an output of the core.

    Raises:
        torch.cuda.OutOfMemoryError: the cell does not fit the GPU.
    """

    def __init__(
        self,
        settings: DecodeSettings,
        S: int,
        select: SelectAttention | None,
        device: torch.device,
        core: Core | None = None,
    ) -> None:
        shape = settings.model
        assert (select is None) != (core is None), "a step runs through a selection kernel or through a core"
        self.settings, self.S, self.select, self.device, self.core = settings, S, select, device, core
        self.parts = parts_of(settings, device)
        self.computed_by = step_parts(self.parts)
        self.steps, self.emit_weight = emission(shape, S)  # {emits: S'}
        dtype: torch.dtype = getattr(torch, settings.dtype.of(device.type))
        longest = max(self.steps.values())
        self.layer = NsaAttention(shape, settings.seed).to(device, dtype)
        capacity = shape.num_blocks(longest + 1) * shape.sel_block
        self.cache = KVCache(shape, settings.batch, capacity, dtype, device)
        generator = torch.Generator(device).manual_seed(settings.seed)
        tokens = Tokens(self.layer.state_dict(), shape, settings.batch, longest, generator)
        sample = Sample(longest, device)
        for start in range(0, longest, FILL_TOKENS):
            past = tokens.past(start, min(start + FILL_TOKENS, longest)).to(dtype)
            sample.take(start, past)
            fill(self.layer, past, self.cache)
        self.x = tokens.current(1)[0].to(dtype)  # [B, dim], changed in place: what is captured reads it
        replays = 2 * settings.iters if device.type == "cuda" else BLOCKS  # cold and warm; on a CPU a block's last one
        self.fresh = tokens.current(replays).to(dtype)  # [replays, B, dim]: of steps that are judged
        self.prefilled = sample.errors(self.layer.state_dict(), self.cache, shape, longest)
        self.slots = Slots(self.cache, shape, self.steps)
        left = max(0, min(self.steps.values()) - shape.window)
        for tensor in (self.cache.k, self.cache.v):
            tensor[WIN, :, :, :left] *= UNSEEN
        self._before = {
            emits: torch.full((settings.batch,), step - 1, dtype=torch.int32, device=device)
            for emits, step in self.steps.items()
        }
        self.variants: dict[str, SelectAttention] = {}
        self.off_unread = True
        self.frozen: dict[bool, torch.Tensor] = {}
        self.given: dict[bool, torch.Tensor] = {}
        self._marks = self._marked()
        self.reads = Reads(cmp=0, sel=0, win=0, actual=0, expected=0)
        for emits, step in self.steps.items():
            full = self.arm("all", emits)
            assert full.block_indices is not None
            self.frozen[emits], self.given[emits] = full.block_indices.clone(), full.block_indices.clone()
            if step == S:
                self.reads = self._count(full)

    def _count(self, full: Step) -> Reads:
        """KV tokens that a full step touches per (sequence, group), averaged over both."""
        shape, cache = self.settings.model, self.cache
        assert full.block_indices is not None
        if self.core is not None:
            capacities = (cache.capacity, cache.k_cmp.shape[2])
            counted = read_by_core(self.core, cache.seq_lens, shape, capacities, self.x)
            cmp, sel, win = counted.flatten(1).mean(1).tolist()
        else:
            assert self.select is not None
            sizes = (shape.heads_per_group, shape.head_dim, shape.value_dim)
            selected = selected_by_kernel(
                self.select, full.block_indices, cache.seq_lens, shape.sel_block, cache.capacity, sizes, self.x
            )
            lengths = Lengths(cache.seq_lens, cache.max_length, cache.uniform)
            compressed = compressed_by_parts(self.computed_by, lengths, shape, self.x)
            cmp, sel = compressed.mean().item(), selected.mean().item()
            if self.computed_by.window is None:
                win = visible(full.win)
            else:
                win = window_by_kernel(self.computed_by.window, lengths, shape, cache.capacity, self.x).mean().item()
        return Reads(cmp=cmp, sel=sel, win=win, actual=cmp + sel + win, expected=shape.reads_expected(self.S))

    def rewind(self, emits: bool) -> None:
        """Return lengths and caches on the device to the state before the step, without waiting for it: for replays."""
        self.cache.seq_lens.copy_(self._before[emits])
        self._reset(emits)

    def restore(self, emits: bool) -> None:
        """Return the lengths on both sides, and the caches, to the state before the step."""
        self.cache.set_lengths((self.steps[emits] - 1,) * self.settings.batch)
        self._reset(emits)

    def _reset(self, emits: bool) -> None:
        self.slots.reset(emits)
        if emits in self.given:
            self.given[emits].copy_(self.frozen[emits])

    def as_prefilled(self) -> bool:
        """Whether no step has changed the caches but where it writes."""
        return all(map(torch.equal, self._marks, self._marked()))

    def _marked(self) -> list[torch.Tensor]:
        self.restore(next(iter(self.steps)))
        return marks(self.cache)

    def arm(self, name: str, emits: bool) -> Step:
        """Run one arm of the step at S (or its neighbour) from the state before it."""
        self.restore(emits)
        return self.step(name, emits)

    def take_variants(self, variants: Mapping[str, SelectAttention]) -> dict[str, str]:
        """Time the step with these kernels, too; returns those that do not take part, and why.

        One that refuses the cell does not. What is wrong with the steps of another, the judge says (decode.judge).
        """
        refused: dict[str, str] = {}
        for name, kernel in variants.items():
            self.variants[name] = kernel
            try:
                for emits in self.steps:
                    self.arm(f"all{OTHER}{name}", emits)
            except InputError as why:
                refused[name] = str(why)
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
        frozen = self.given[emits] if arm.frozen else None
        if self.core is not None:
            return self.layer.decode(self.x, self.cache, self.core, arm.parts, frozen, computed_by)
        assert select is not None
        return self.layer.step(self.x, self.cache, select, arm.parts, frozen, computed_by)

    def finite_when_poisoned(self) -> bool:
        """Whether every arm's output stays finite while all tokens beyond its length are NaN, and the whole caches of
        the parts that are off in it.
        """
        finite, shape, cache = True, self.settings.model, self.cache
        tensors = (cache.k, cache.v, cache.k_cmp, cache.v_cmp)
        for emits, step in self.steps.items():
            beyond = (step, step, shape.num_compressed(step), shape.num_compressed(step))
            kept = [tensor.clone() for tensor in tensors]
            for name in self.arms:
                before = self.arm(name, emits).output.clone()
                for tensor, first in zip(tensors, beyond, strict=True):
                    tensor[..., first:, :] = torch.nan
                for tensor in _off(ARMS[name.partition(OTHER)[0]].parts, cache):
                    tensor.fill_(torch.nan)
                after = self.arm(name, emits).output
                finite &= bool(after.isfinite().all())
                self.off_unread &= self.core is None or torch.equal(before, after)
                for tensor, old in zip(tensors, kept, strict=True):
                    tensor.copy_(old)
        return finite

    @property
    def bytes_read(self) -> int:
        """KV bytes that one full step touches: counted tokens, (D + Dv) values each, over all sequences and groups."""
        shape, size = self.settings.model, self.x.element_size()
        per_token = (shape.head_dim + shape.value_dim) * size * shape.groups * self.settings.batch
        return round(self.reads.actual * per_token)


def _off(parts: Parts, cache: KVCache) -> list[torch.Tensor]:
    """The caches that belong to parts that are off: not the compressed branch's own, of which tokens are emitted."""
    off = [] if parts.cmp else [cache.k_cmp, cache.v_cmp]
    for branch, on in ((SEL, parts.sel), (WIN, parts.win)):
        off += [] if on else [cache.k[branch], cache.v[branch]]
    return off


def parts_of(settings: DecodeSettings, device: torch.device) -> Name:
    """Which way the step beside selection or a core is computed: the fastest that this device and installation have."""
    best = device.type == "cuda" and importlib.util.find_spec("triton") is not None
    return "triton" if best and settings.parts == "best" else "torch"


def visible(keys: Keys | None) -> float:
    """Key tokens that at least one query row of the group sees, averaged over sequences and groups."""
    if keys is None:
        return 0.0
    B, G, M, _ = keys.keys.shape
    if keys.mask is None:
        return float(M)
    seen = keys.mask.any(-2)  # [B or 1, G or 1, M]
    return seen.expand(B, G, M).sum(-1).double().mean().item()
