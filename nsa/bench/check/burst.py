"""What a burst of the candidate's replays showed: its times by the judge's clock, and an output of it, judged."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nsa.bench.method.accuracy import fault, selected_oracle
from nsa.bench.method.kernels import KernelCandidate, judge
from nsa.bench.method.replays import Replays
from nsa.records.facts import Burst
from nsa.records.shapes import CheckShape, GridShape
from nsa.records.words import Row


@dataclass(frozen=True)
class BurstTimes:
    """The shortest burst, per replay (see nsa.records.facts.Burst), and one of its replays, drawn after it.

    Attributes:
        q: the query of that replay, [B, G, h, D].
        output: what it gave.
        last_q: the query of the last replay, which the candidate has now.
    """

    replays: int
    queries: int
    burst_ns: float
    events_ns: float
    empty_ns: float
    q: torch.Tensor
    output: torch.Tensor
    last_q: torch.Tensor

    def fact(self, process: int, shape: CheckShape) -> Burst:
        """What a record keeps of it."""
        sizes = GridShape(*shape.sizes)
        times = {"burst_ns": self.burst_ns, "events_ns": self.events_ns, "empty_ns": self.empty_ns}
        return Burst(process=process, shape=sizes, replays=self.replays, queries=self.queries, **times)


def judge_burst(burst: BurstTimes, name: str, packed: KernelCandidate, replays: Replays, columns: Row) -> list[Row]:
    """One row of the candidate: the output that was drawn of the burst, as every other output is judged.

    Args:
        burst: of the candidate.
        name: of the candidate's rows.
        packed: packed SDPA, prepared on the same inputs.
        replays: of these; K and V are as the burst had them.
        columns: what names the shape in every row.
    """
    now = replays.call.q.clone()
    replays.call.q.copy_(burst.q)
    outputs = {
        str(packed.columns["backend"]): (packed.replay().clone(), None),
        name: (burst.output, fault(burst.output, replays.call)),
    }
    _, mine = judge(outputs, str(packed.columns["backend"]), columns, None, selected_oracle(replays.call))
    replays.call.q.copy_(now)
    return [mine]
