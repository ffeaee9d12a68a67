"""Hidden states whose keys are as real caches have them: a common mean, topics that last for some blocks, sinks.

With hidden states of white noise all compressed keys are nearly alike, so is the importance of all blocks, and rounding
may decide between them. Here each sequence is runs of tokens of one topic, as a text is: the blocks of a topic that the
query favours are more important than others by far more than rounding, and lie side by side. The first tokens are
attention sinks: their keys are large, and aligned with the mean of the queries.
"""

from __future__ import annotations

import torch

from nsa.bench.decode.exact import Weights, project, rope
from nsa.shapes import NsaShape

TOPICS = 16  # directions of hidden states, drawn once
RUN_TOKENS = (32, 256)  # the shortest and the longest run of one topic
MEAN, TOPIC, NOISE = 1.0, 1.0, 0.7  # amplitudes: what all tokens share, what those of a topic share, each one's own
SINKS = 4  # tokens at the start
SINK_LOGIT = 8.0  # of a sink's key with the mean query of its group at the measured step
RIDGE = 1e-2  # keeps a sink's hidden state small where the layer's width leaves little room


class Tokens:
    """The hidden states of a cell, the same for the same generator.

    Args:
        weights: the layer's.
        shape: its sizes.
        batch: B.
        length: tokens of each sequence; the last position is where the sinks' keys meet the queries.
        generator: of the device on which they are drawn.
    """

    def __init__(self, weights: Weights, shape: NsaShape, batch: int, length: int, generator: torch.Generator) -> None:
        self._generator, self._device, self._dim = generator, generator.device, shape.dim
        self._mean = MEAN * self._normal(shape.dim)
        self._topics = TOPIC * self._normal(TOPICS, shape.dim)
        shortest, longest = RUN_TOKENS
        runs = self._whole(shortest, longest + 1, batch, -(-length // shortest)).cumsum(
            -1
        )  # [B, runs]: where each ends
        token = torch.arange(length, device=self._device).expand(batch, -1).contiguous()
        topic = self._whole(0, TOPICS, *runs.shape)
        self._topic = topic.gather(1, torch.searchsorted(runs, token, right=True))  # [B, length]
        self._sink = sink(weights, shape, self._mean, length - 1)

    def past(self, start: int, stop: int) -> torch.Tensor:
        """Hidden states of the tokens from start to stop, in this order and each once: [B, T, dim] float32."""
        x = self._mean + self._topics[self._topic[:, start:stop]]
        x += NOISE * self._normal(*x.shape)
        if start < SINKS:
            x[:, : SINKS - start] = self._sink + x[:, : SINKS - start] - self._mean
        return x

    def current(self, steps: int) -> torch.Tensor:
        """Hidden states of the token that is decoded, one for each of some steps: [steps, B, dim] float32."""
        topic = self._topics[self._whole(0, TOPICS, steps, len(self._topic))]
        return self._mean + topic + NOISE * self._normal(*topic.shape)

    def _normal(self, *sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=self._generator, device=self._device)

    def _whole(self, low: int, high: int, *sizes: int) -> torch.Tensor:
        return torch.randint(low, high, sizes, generator=self._generator, device=self._device)


def sink(weights: Weights, shape: NsaShape, mean: torch.Tensor, position: int) -> torch.Tensor:
    """The hidden state [dim] whose keys, at the start, have SINK_LOGIT with the mean query at a position; no values.

    Both by least squares: a layer may have more keys and values than a hidden state has numbers. What is reached at the
    default sizes: keys 1.7 times as large as others, values no larger, 0.2 to 0.4 of the attention to all tokens.
    """
    at = torch.tensor(position, device=mean.device)
    q = project(weights, mean, shape, at)[0].mean(-2)  # [G, D]: of a group's heads
    q = rope(q[None, None], torch.tensor(-(SINKS - 1) / 2, device=mean.device))[0, 0]  # as a sink's key is turned
    keys = SINK_LOGIT * shape.head_dim**0.5 * q / q.square().sum(-1, keepdim=True)
    wanted = torch.cat((keys.expand(3, -1, -1).flatten(), keys.new_zeros(3 * shape.groups * shape.value_dim)))
    kv = weights["qkv.weight"][shape.heads * shape.head_dim :].double()  # [3*G*(D + Dv), dim]
    gram = kv.T @ kv
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, kv.T @ wanted).float()
