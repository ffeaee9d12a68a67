"""The inputs of timed replays, each with something that no replay before it had, and what is right for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from nsa.bench.method.inputs import Call

CHANGED_ROWS = 16  # rows of which a token changes: the first and the last, and others that are drawn
CHUNK = 32  # replays that are judged at once
JUDGED_ROWS = 16  # further rows of each output that are judged, drawn after the replays


class Drawn(NamedTuple):
    """What is new in one replay: the queries, and the key and value of one selected token in each changed row."""

    q: torch.Tensor  # [B, G, h, D]
    slot: torch.Tensor  # [R]: the token's place among the row's n·l' selected ones
    token: torch.Tensor  # [R]: its position in the cache
    k: torch.Tensor  # [R, D]
    v: torch.Tensor  # [R, Dv]


class Changes:
    """A call whose inputs are changed in place before each timed replay: new queries, and a token in some rows.

    Args:
        call: the inputs.
        changed: [R], the rows of which a token changes.

    Attributes:
        count: of the replays so far; who keeps the output of one counts it.
    """

    def __init__(self, call: Call, changed: torch.Tensor) -> None:
        self.call, self.changed, self.count = call, changed, 0
        self._b, self._g = changed // call.q.shape[1], changed % call.q.shape[1]
        self._kept: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None  # token, key and value before

    def refresh(self) -> None:
        """Change the inputs for the next replay."""
        raise NotImplementedError

    def apply(self, drawn: Drawn) -> None:
        """Change the inputs to these."""
        self.call.q.copy_(drawn.q)
        self.restore()
        if len(self.changed):
            where = (self._b, self._g, drawn.token)
            self._kept = drawn.token, self.call.k[where], self.call.v[where]
            self.call.k[where], self.call.v[where] = drawn.k, drawn.v

    def restore(self) -> None:
        """Give the changed token back what it was."""
        if self._kept is not None:
            token, k, v = self._kept
            self.call.k[self._b, self._g, token], self.call.v[self._b, self._g, token] = k, v
            self._kept = None

    def forget(self) -> None:
        """All inputs were written anew: there is nothing to give back."""
        self._kept = None


class Replays(Changes):
    """The inputs of one call's timed replays, drawn from a seed.

    Every replay has queries that none had before. With `changes` a token of K and V changes in some rows, too: its key
    is the row's first query, so that its value moves the output by far more than rounding. A memo of queries, and K and
    V that were packed earlier, then give a wrong output.

    Args:
        call: the inputs, with every block present in every row.
        seed: of all that is drawn.
        changes: whether K and V change; not where other calls share them.
    """

    def __init__(self, call: Call, seed: int, changes: bool) -> None:
        B, G, device = call.q.shape[0], call.q.shape[1], call.q.device
        some = min(CHANGED_ROWS, B * G) if changes else 0
        order = torch.randperm(B * G, generator=torch.Generator().manual_seed(seed))
        drawn = [row for row in order.tolist() if row not in (0, B * G - 1)][: max(0, some - 2)]
        rows = sorted({0, B * G - 1, *drawn}) if some else []
        super().__init__(call, torch.tensor(rows, dtype=torch.long, device=device))
        self.seed, self._generator = seed, torch.Generator(device)

    def draw(self, replay: int) -> Drawn:
        """What is new in a replay: the same whenever it is asked."""
        call, made = self.call, self._generator.manual_seed(self.seed + replay)
        R, device, dtype = len(self.changed), call.q.device, call.q.dtype
        q = torch.empty_like(call.q).normal_(generator=made)
        n, size = call.block_indices.shape[2], call.block_size
        place = torch.randint(n, (R,), generator=made, device=device)
        offset = torch.randint(size, (R,), generator=made, device=device)
        start = call.block_indices[self._b, self._g, place].long() * size
        offset = torch.where(start + offset < call.seq_lens[self._b], offset, 0)  # a block's first token always exists
        v = torch.empty(R, call.v.shape[3], dtype=dtype, device=device).normal_(generator=made)
        return Drawn(q, place * size + offset, start + offset, q[self._b, self._g, 0], v)

    def queries(self, replays: int) -> torch.Tensor:
        """New queries for some replays without other changes, which are counted at once: [replays, B, G, h, D]."""
        made = self._generator.manual_seed(self.seed + self.count)
        self.count += replays
        return self.call.q.new_empty(replays, *self.call.q.shape).normal_(generator=made)

    def refresh(self) -> None:
        """Draw the inputs of the next replay, and change them; the same again for one that is repeated."""
        self.apply(self.draw(self.count))


class Judge:
    """Right outputs of some rows in float64, for every replay of one call; its K and V are as before any replay.

    Args:
        replays: of the call, restored.
        seed: of the rows that are drawn beside those that change.
    """

    def __init__(self, replays: Replays, seed: int) -> None:
        call, self._replays = replays.call, replays
        (B, G), device = call.q.shape[:2], call.q.device
        drawn = torch.randint(B * G, (JUDGED_ROWS,), generator=torch.Generator().manual_seed(seed)).to(device)
        others = drawn[~torch.isin(drawn, replays.changed)]
        self.rows = torch.cat([replays.changed, others])  # [R], the changed ones first
        self._b, self._g = self.rows // G, self.rows % G
        offset = torch.arange(call.block_size, device=device)
        blocks = call.block_indices[self._b, self._g].long()  # [R, n]
        token = (blocks[..., None] * call.block_size + offset).flatten(1)  # [R, n*l']
        self._seen = (token >= 0) & (token < call.seq_lens[self._b, None])
        token = token.clamp(0, call.k.shape[2] - 1)
        rows = (self._b[:, None], self._g[:, None], token)
        self._k, self._v = (
            torch.where(self._seen[..., None], cache[rows].double(), 0) for cache in (call.k, call.v)
        )  # [R, n*l', D], [R, n*l', Dv]

    def worst(self, replays: Sequence[int], outputs: Sequence[torch.Tensor]) -> float:
        """The largest relative L2 error of a head in the judged rows of some replays' outputs, [B, G, h, Dv] each.

        NaN where an output has another shape, or holds NaN.
        """
        call = self._replays.call
        if any(output.shape != (*call.q.shape[:3], call.v.shape[3]) for output in outputs):
            return float("nan")
        errors = [torch.zeros((), dtype=torch.float64, device=call.q.device)]
        for first in range(0, len(replays), CHUNK):
            now = slice(first, first + CHUNK)
            exact = self.exact(replays[now])
            found = torch.stack([output[self._b, self._g] for output in outputs[now]], dim=1).double()
            norm = exact.norm(dim=-1)
            error = (found - exact).norm(dim=-1) / norm
            errors.append(torch.where(norm > 0, error, found.norm(dim=-1)).max())
        return float(torch.stack(errors).max())

    def exact(self, replays: Sequence[int]) -> torch.Tensor:
        """The right outputs of the judged rows in some replays: [R, C, h, Dv] float64.

        A row's replays share its K and V, so that one product of matrices serves all of them; what the token that
        changed moves is added.
        """
        drawn, changed = [self._replays.draw(replay) for replay in replays], self._replays.changed
        place = torch.arange(len(changed), device=changed.device)  # of the changed rows, which come first
        q = torch.stack([each.q[self._b, self._g] for each in drawn], dim=1).double()  # [R, C, h, D]
        k, v = (torch.stack([getattr(each, name) for each in drawn], dim=1).double() for name in "kv")  # [R', C, ...]
        slot = torch.stack([each.slot for each in drawn], dim=1)  # [R', C]
        scale, heads = q.shape[-1] ** -0.5, q.shape[1:3]
        where = slot[..., None, None].expand(-1, -1, heads[1], 1)
        scores = (q.flatten(1, 2) @ self._k.transpose(1, 2)).unflatten(1, heads) * scale  # [R, C, h, n*l']
        own = (q[place] * k[:, :, None]).sum(-1, keepdim=True) * scale  # [R', C, h, 1]
        scores[place] = scores[place].scatter(-1, where, own)
        p = scores.masked_fill_(~self._seen[:, None, None], -torch.inf).softmax(-1)
        p = p.where(self._seen.any(-1)[:, None, None, None], 0)
        out = (p.flatten(1, 2) @ self._v).unflatten(1, heads)  # [R, C, h, Dv]
        moved = v - self._v[place[:, None], slot]  # [R', C, Dv]
        out[place] += p[place].gather(-1, where) * moved[:, :, None]
        return out
