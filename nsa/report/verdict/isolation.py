"""The checks on a kernel check's two processes: the judge beside the candidate, and the candidate's own clock."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nsa.records.facts import Burst, CheckFacts, Clocked, CoreBurst, CoreFacts
from nsa.records.shapes import AXES, CORE_AXES, GridShape
from nsa.report.analysis.kernel import PACKED_ERROR
from nsa.report.analysis.read import Record
from nsa.report.analysis.replicates import medians
from nsa.report.verdict.checks import Check
from nsa.report.verdict.tried import shape_of
from nsa.report.verdict.words import BLOCKING, WARNING

DISTURBED = 0.05  # by which packed SDPA's time may move once there is a candidate, geometric mean
BURST_EXCESS = 1.15  # times the events' time, which a replay may take by the judge's clock
NS_PER_US = 1e3


def isolation_checks(record: Record[CheckFacts]) -> list[Check]:
    """Every one; on a CPU those on results only."""
    found = [packed_sdpa_inaccurate(record), torch_switched(record)]
    return [*found, baseline_disturbed(record), clocks_disagree(record)] if record.on_cuda else found


def baseline_disturbed(record: Record[CheckFacts]) -> Check:
    """Packed SDPA takes as long beside the candidate as it took before that was loaded."""
    name = "baseline_disturbed"
    logs: list[tuple[float, float]] = []
    beside = {key: float(str(time_ns)) for key, time_ns in medians(record).stack().dropna().items()}
    for alone in record.facts.baseline_alone:
        time_ns = beside.get((alone.backend, *alone.shape.sizes, alone.process), 0.0)
        logs += [(math.log(alone.median_ns), math.log(time_ns))] if min(time_ns, alone.median_ns) > 0 else []
    if not logs:
        message = "packed SDPA was not timed without the candidate, so nothing shows whether that disturbs it"
        return Check(name, BLOCKING, record.name, None, DISTURBED, message, len(beside) > 0)
    before_us, after_us = (math.exp(sum(times) / len(logs)) / NS_PER_US for times in zip(*logs, strict=True))
    moved = after_us / before_us - 1
    message = (
        f"packed SDPA took {before_us:.4g} µs before the candidate was loaded and {after_us:.4g} µs beside it, "
        f"{moved:+.1%}, geometric mean over {len(logs)} timings ({DISTURBED:.0%} allowed)"
    )
    return Check(name, BLOCKING, record.name, abs(moved), DISTURBED, message, not abs(moved) <= DISTURBED)


def clocks_disagree(record: Record[CheckFacts] | Record[CoreFacts]) -> Check:
    """Replays without a pause, by the judge's clock, take no longer than the candidate's events say of each."""
    name, facts = "clocks_disagree", record.facts
    bursts: Sequence[Burst | CoreBurst] = facts.bursts
    timed = record.rows[(record.rows["backend"] == record.backend) & record.rows["value_ns"].notna()]
    shown = {(burst.process, str(burst.shape)) for burst in bursts}
    axes = CORE_AXES if isinstance(facts, CoreFacts) else AXES
    sides = timed[["process", *axes]].drop_duplicates().itertuples(index=False)
    wanted = {(int(process), str(shape_of(axes, sizes))) for process, *sizes in sides}
    if lacking := sorted(wanted - shown):
        process, shape = lacking[0]
        message = f"no burst was clocked on {shape} in process {process}, the first of {len(lacking)} such"
        return Check(name, BLOCKING, record.name, None, BURST_EXCESS, message, True)
    if not bursts:
        return Check(name, BLOCKING, record.name, None, BURST_EXCESS, "nothing was timed", False)
    worst = max(bursts, key=excess)
    message = (
        f"{worst.replays} replays on {worst.shape} in process {worst.process} took {worst.burst_ns / NS_PER_US:.4g} µs "
        f"each by the judge's clock, where its own events say {worst.events_ns / NS_PER_US:.4g} µs "
        f"(at most {BURST_EXCESS:g} times that and {worst.empty_ns / NS_PER_US:.3g} µs to launch it)"
    )
    return Check(name, BLOCKING, record.name, excess(worst), BURST_EXCESS, message, not excess(worst) <= BURST_EXCESS)


def excess(burst: Clocked) -> float:
    """A replay's time by the judge's clock, what launching takes left out, over its time by events."""
    return (burst.burst_ns - burst.empty_ns) / burst.events_ns if burst.events_ns > 0 else math.inf


def packed_sdpa_inaccurate(record: Record[CheckFacts]) -> Check:
    """A candidate may err twice as far as packed SDPA does: packed SDPA's own error has a bound."""
    name, dtype, rows = "packed_sdpa_inaccurate", record.facts.dtype, record.rows
    rows, allowed = rows[rows["sdpa_oracle_error"].notna()], PACKED_ERROR[dtype]
    if rows.empty:
        return Check(name, BLOCKING, record.name, None, allowed, "no output of packed SDPA was judged", False)
    worst = rows.iloc[rows["sdpa_oracle_error"].to_numpy().argmax()]
    shape, error = GridShape(*(int(worst[axis]) for axis in AXES)), float(worst["sdpa_oracle_error"])
    message = f"the worst row of packed SDPA is {error:.2g} off the oracle on {shape} in {dtype}, at most {allowed:.2g}"
    return Check(name, BLOCKING, record.name, error, allowed, message, not error <= allowed)


def torch_switched(record: Record[CheckFacts] | Record[CoreFacts]) -> Check:
    """Whether the candidate changed torch's switches for the whole of its process, as it would in a user's."""
    switched = record.facts.switched
    message = "; ".join(switched) or "torch's switches are as they were before the candidate was loaded"
    return Check("torch_switched", WARNING, record.name, float(len(switched)), 0.0, message, bool(switched))
