"""What a burst of the candidate's replays showed: its times by the judge's clock, and an output of it, judged."""

from __future__ import annotations

from nsa.bench.apart.burst import Clocked
from nsa.bench.method.accuracy import fault, selected_oracle
from nsa.bench.method.candidate import KernelCandidate
from nsa.bench.method.kernels import judge
from nsa.bench.method.replays import Replays
from nsa.records.facts import Burst
from nsa.records.shapes import CheckShape, GridShape
from nsa.records.words import Row


def fact(burst: Clocked, process: int, shape: CheckShape) -> Burst:
    """What a record keeps of a burst."""
    sizes = GridShape(*shape.sizes)
    return Burst(process=process, shape=sizes, replays=burst.replays, queries=burst.queries, **burst.times)


def judge_burst(burst: Clocked, name: str, packed: KernelCandidate, replays: Replays, columns: Row) -> list[Row]:
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
        name: (burst.outputs[0], fault(burst.outputs[0], replays.call)),
    }
    _, mine = judge(outputs, str(packed.columns["backend"]), columns, None, selected_oracle(replays.call))
    replays.call.q.copy_(now)
    return [mine]
