"""Steps whose token is appended by the kernel, beside the same by the layer's torch operators."""

from __future__ import annotations

import random

import numpy as np
import torch
from strategies import cache as empty_cache
from strategies import float64_weights

from nsa.attention import reference
from nsa.attention.cache import KVCache
from nsa.attention.composition import compose
from nsa.attention.layer import NsaAttention
from nsa.attention.parts import TORCH
from nsa.kernels.parts.parts import TritonParts
from nsa.kernels.sdpa.packed import gather
from nsa.shapes import NsaShape

CAPACITY = 64


def random_layer(seed: int) -> NsaAttention:
    """Any widths of the contract, h 1 to 16, d dividing l and l', both phi."""
    draw = random.Random(seed)
    stride, groups = draw.choice([1, 2, 4]), draw.choice([1, 2, 3])
    shape = NsaShape(
        dim=draw.choice([24, 64]),
        heads=groups * draw.choice([1, 3, 4, 16]),
        groups=groups,
        head_dim=draw.choice([32, 64, 96, 192]),
        value_dim=draw.choice([32, 96, 128]),
        cmp_block=stride * draw.choice([1, 2, 9]),
        cmp_stride=stride,
        sel_block=stride * 4,
        sel_count=CAPACITY // (4 * stride),  # every block: rounding cannot change routing
        window=16,
        phi=draw.choice(["mean", "mean", "mlp"]),
    )
    return NsaAttention(shape, seed)


def token_faults(seed: int, dtype: torch.dtype, device: torch.device, tolerance: float) -> list[str]:
    """What differs, after some steps of a batch that is ragged or not, from the layer's torch operators."""
    layer, draw = random_layer(seed).to(device, dtype), random.Random(seed)
    shape, steps = layer.shape, layer.shape.cmp_stride + 1  # of one emission or two, whatever the length
    lengths = draw.choice([[0, 0], [0, 37, 20], [CAPACITY - steps, 3]])
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.randn(steps, len(lengths), shape.dim, generator=generator, device=device).to(dtype)
    found = []
    for parts in (TORCH, TritonParts()):
        made = KVCache(shape, len(lengths), CAPACITY, dtype, device)
        generator.manual_seed(seed)
        for cache in (made.k, made.v, made.k_cmp, made.v_cmp):
            cache.copy_(torch.randn(cache.shape, generator=generator, device=device))
        made.set_lengths(lengths)
        outputs = [layer.step(now, made, gather, computed_by=parts) for now in x]
        states = {name: getattr(made, name) for name in ("k", "v", "k_cmp", "v_cmp", "seq_lens")}
        found.append(states | {"q": outputs[-1].q, "output": torch.stack([each.output for each in outputs])})
        if made.arrived.any():
            return [f"{parts.name}: the counters are {made.arrived.tolist()}, expected zeros"]
    errors = {name: float((found[1][name].double() - right.double()).abs().max()) for name, right in found[0].items()}
    return [f"{name} is off by {error}" for name, error in errors.items() if not error <= tolerance]


def full_faults(device: torch.device) -> list[str]:
    """What the kernel changes of a sequence that is full, where no host forbids it, as in a replay."""
    layer = random_layer(0).to(device)
    made = KVCache(layer.shape, 2, 8, torch.float32, device)
    made.set_lengths([8, 7])
    made.lengths = (6, 6)  # what a host knows that captured the step earlier
    names = ("k", "v", "k_cmp", "v_cmp")
    kept = [getattr(made, name).clone() for name in names]
    layer.step(torch.randn(2, layer.shape.dim, device=device), made, gather, computed_by=TritonParts())
    faults = [] if made.seq_lens.tolist() == [8, 8] else [f"the lengths are {made.seq_lens.tolist()}, expected [8, 8]"]
    for name, before in zip(names, kept, strict=True):
        full = (..., 0, slice(None), slice(None), slice(None))
        if not torch.equal(getattr(made, name)[full], before[full]):
            faults.append(f"{name} of the full sequence changed")
    return faults


def decoded_faults(phi: str) -> list[str]:
    """Tokens of two sequences through a composed core, without a length on the host, beside the oracle's loops."""
    shape = NsaShape(
        dim=16, heads=2, groups=1, head_dim=32, value_dim=64, cmp_block=4, cmp_stride=2, sel_block=4, sel_count=3,
        window=5, phi=phi,
    )  # fmt: skip
    layer, tokens = NsaAttention(shape), 19
    x = torch.randn(2, tokens, shape.dim, generator=torch.Generator().manual_seed(0))
    made, core, outputs = empty_cache(layer, 2, 20), compose(gather), []
    for t in range(tokens):
        outputs.append(layer.decode(x[:, t], made, core, computed_by=TritonParts()).output)
        made.lengths = (0, 0)  # nothing that is known on the host is used
    got = torch.stack(outputs, 1).double().numpy()
    exact = [reference.decode(float64_weights(layer), each.double().numpy(), shape) for each in x]
    errors = np.abs(got - np.stack(exact)).max((0, 2)) / np.abs(exact).max()
    return [f"token {t} is off by {error}" for t, error in enumerate(errors) if not error <= 2e-5]


def linear_faults(dtype: torch.dtype, device: torch.device, tolerance: float) -> list[str]:
    """What differs from float64 of products of one row, and of two, by weights of a few and of many columns."""
    faults = []
    for rows, columns, numbers in ((1, 24, 7), (1, 1500, 3), (1, 9000, 5), (2, 24, 7)):
        x, weight = torch.randn(rows, columns), torch.randn(numbers, columns)
        x, weight = x.to(device, dtype), weight.to(device, dtype)
        right = x.double() @ weight.double().T
        error = float((TritonParts().linear(x, weight).double() - right).norm() / right.norm())
        if not error <= tolerance:
            faults.append(f"[{rows}, {columns}] by [{numbers}, {columns}] is off by {error}")
    return faults
