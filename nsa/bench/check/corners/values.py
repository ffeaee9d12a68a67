"""Corner cases of values: scores, probabilities and values that random inputs do not have."""

from __future__ import annotations

import torch

from nsa.bench.check.corners.draw import Draw, Drawn

FACTORS = (8, 30)  # of queries: at 30 an exponential without the maximum overflows float32
TAIL = 11.5  # scores of the tail below the one that dominates: probabilities of about 1e-5
LOW = -110.0  # exp of it is zero in float32
SINK = 7.0  # score of the sink, where others have about 0
FLAT, LARGE = 0.003, 1000.0  # factor of queries whose tokens all weigh about the same; about what each value is
SINK_WIDTH = 0.5  # what the query has in the channel of the sink's outlier


def large_queries(draw: Draw) -> list[Drawn]:
    """Scores far apart: the largest decides."""
    found = [draw.full() for _ in FACTORS]
    return [each.changed(q=each.call.q * factor) for each, factor in zip(found, FACTORS, strict=True)]


def tail(draw: Draw) -> list[Drawn]:
    """In each row one token has nearly all of the weight and a value of zero; hundreds carry the output."""
    drawn = draw.full()
    call = drawn.call
    scores = 0.3 * draw.normal(*call.k.shape[:3])
    chosen = call.block_indices[..., draw.random.randrange(call.block_indices.shape[-1])].long() * call.block_size
    scores.scatter_(2, chosen[..., None], TAIL)
    v = draw.normal(*call.v.shape[:2], 1, call.v.shape[3]) + 0.5 * draw.normal(*call.v.shape)
    v.scatter_(2, chosen[..., None, None].expand(-1, -1, 1, v.shape[3]), 0)
    return [_with_scores(draw, drawn, scores).changed(v=v.to(call.v.dtype))]


def low_scores(draw: Draw) -> list[Drawn]:
    """Clustered keys, all opposite to the queries: every score is far below zero."""
    drawn = draw.full()
    return [_with_scores(draw, drawn, LOW + 0.7 * draw.normal(*drawn.call.k.shape[:3]))]


def _with_scores(draw: Draw, drawn: Drawn, scores: torch.Tensor) -> Drawn:
    """Queries and keys [B, G, S, D] along one direction a row, such that the heads' scores are about these."""
    call = drawn.call
    B, G, h, D = call.q.shape
    direction = torch.nn.functional.normalize(draw.normal(B, G, 1, D), dim=-1)
    length = 2 * D**0.5 * (1 + 0.05 * draw.normal(B, G, h, 1).clamp(-2, 2))
    k = direction * scores[..., None] / 2 + 0.05 * draw.normal(*call.k.shape)  # no two keys alike
    return drawn.changed(q=(direction * length).to(call.q.dtype), k=k.to(call.k.dtype))


def sink(draw: Draw) -> list[Drawn]:
    """The first token attracts most of the weight by one outlying channel of its key, and its value is small."""
    drawn = draw.full()
    q, k, v, indices = (tensor.clone() for tensor in drawn.call[:4])
    channel = draw.random.randrange(q.shape[-1])
    q[..., channel] = SINK_WIDTH
    k[:, :, 0] = 0
    k[:, :, 0, channel] = SINK * q.shape[-1] ** 0.5 / SINK_WIDTH
    v[:, :, 0] *= 0.01
    indices[..., 0] = 0
    return [drawn.changed(q=q, k=k, v=v, block_indices=indices)]


def equal_queries(draw: Draw) -> list[Drawn]:
    """All rows have the same query, and keys and values of their own."""
    drawn = draw.full()
    return [drawn.changed(q=drawn.call.q[:1, :1].expand_as(drawn.call.q).contiguous())]


def equal_keys(draw: Draw) -> list[Drawn]:
    """Each key is there twice, with two values."""
    drawn = draw.full()
    k = drawn.call.k.clone()
    k[:, :, 1::2] = k[:, :, 0 : 2 * (k.shape[2] // 2) : 2]
    return [drawn.changed(k=k)]


def equal_scores(draw: Draw) -> list[Drawn]:
    """Every query is orthogonal to every key, so that all scores are zero and all tokens weigh the same."""
    drawn = draw.full()
    q, k = drawn.call.q.clone(), drawn.call.k.clone()
    half = q.shape[-1] // 2
    q[..., half:], k[..., :half] = 0, 0
    return [drawn.changed(q=q, k=k)]


def equal_values(draw: Draw) -> list[Drawn]:
    """All values of a row are one, which is then its output."""
    drawn = draw.full()
    return [drawn.changed(v=drawn.call.v[:, :, :1].expand_as(drawn.call.v).contiguous())]


def large_values(draw: Draw) -> list[Drawn]:
    """Values whose weighted sum, before it is divided by the weights', is no number of float16."""
    drawn = draw.full(dtype="float16")
    return [drawn.changed(q=drawn.call.q * FLAT, v=drawn.call.v + LARGE)]
