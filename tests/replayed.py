"""Token after token from an empty cache by replays of one captured step, each judged by a float64 step."""

from __future__ import annotations

import torch

from nsa.attention.cache import KVCache
from nsa.attention.layer import NsaAttention
from nsa.bench.decode.choice import judge_choice
from nsa.bench.decode.errors import worst
from nsa.bench.decode.exact import CMP, SEL, WIN, ExactStep
from nsa.bench.method.timing import CudaTimer
from nsa.kernels.core import Core
from nsa.kernels.parts.parts import TritonParts
from nsa.shapes import NsaShape

TOLERANCE = {torch.float32: 1e-5, torch.float16: 2.5e-3, torch.bfloat16: 2e-2}


def replay_faults(core: Core, shape: NsaShape, dtype: torch.dtype, tokens: int, batch: int) -> list[str]:
    """What is wrong with the outputs, the chosen blocks, the caches and the lengths, up to the first few tokens."""
    device = torch.device("cuda")
    layer = NsaAttention(shape).to(device, dtype)
    cache = KVCache(shape, batch, tokens, dtype, device)
    for tensor in (cache.k, cache.v, cache.k_cmp, cache.v_cmp):
        tensor.fill_(torch.nan)
    generator = torch.Generator(device).manual_seed(0)
    hidden = torch.randn(tokens, batch, shape.dim, generator=generator, device=device).to(dtype)
    x, parts, made = hidden[0].clone(), TritonParts(), []

    def run() -> torch.Tensor:
        made[:] = [layer.decode(x, cache, core, computed_by=parts)]
        return made[0].output

    captured, steps = CudaTimer(device).capture(lambda: cache.set_lengths((0,) * batch), run, 2), []
    cache.set_lengths((0,) * batch)
    for token in hidden:
        x.copy_(token)
        captured.output.fill_(torch.nan)
        captured.graph.replay()
        steps.append((captured.output.clone(), made[0].q.clone(), made[0].block_indices.clone()))
    faults = [] if cache.seq_lens.eq(tokens).all() else [f"the lengths are {cache.seq_lens.tolist()}"]
    for t, (output, q, blocks) in enumerate(steps):
        step = ExactStep(layer.state_dict(), cache, shape, t + 1)
        exact = step.of(hidden[t][None])
        selected = step.selected(exact.q, exact.k[:, :, SEL], exact.v[:, :, SEL], blocks[None])
        right = step.output(exact, {CMP: exact.cmp, SEL: selected, WIN: exact.win})
        emitted = cache.k_cmp[None, :, :, step.compressed - 1] if step.emits else None
        pairs = {"output": (output[None], right), "key": (cache.k[:, :, :, t].transpose(0, 1)[None], exact.k)}
        if exact.k_cmp is not None:
            pairs["k_cmp"] = (emitted, exact.k_cmp)
        errors = {name: worst(*pair) for name, pair in pairs.items()}
        faults += [f"{name} of token {t}: {e}" for name, e in errors.items() if e is None or e > TOLERANCE[dtype]]
        if judge_choice(step.importance(q[None], emitted), blocks[None], t + 1, shape).wrong:
            faults.append(f"token {t} chose {blocks.tolist()}")
        if len(faults) > 5:
            break
    return faults
