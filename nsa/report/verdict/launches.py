"""A part that is off launches nothing: what arms launched against what parts launch (docs/method.md#automatic-checks).

For a part p, what it launches is what the arm that runs only p launches beyond the arm that runs everything but p of
that. An arm in which p is off then launches each kernel at most as often as the whole step does, less p's own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nsa.records.facts import DecodeFacts
from nsa.records.words import ARMS
from nsa.report.verdict.checks import BLOCKING, Check

Launches = Mapping[str, Mapping[str, int]]  # of each arm, how often it launches each kernel


@dataclass(frozen=True)
class Part:
    """A part of the step.

    Attributes:
        alone: the arm that runs it, and least beside it.
        without: the arm that differs from that one by the part only.
        off: every arm in which it is off.
    """

    alone: str
    without: str
    off: tuple[str, ...]


PARTS = {
    "cmp": Part("cmp", "none", ("none", "sel", "win")),
    "route": Part("cmp_route", "cmp", ("none", "cmp", "sel", "win")),
    "sel": Part("sel", "none", ("none", "cmp", "cmp_route", "win", "all_without_sel")),
    "win": Part("win", "none", ("none", "cmp", "cmp_route", "sel")),
}
# The gated sum multiplies the first branch that ran and adds the others to it: one launch a branch, of either name.
GATED_SUM = "the gated sum"
MULTIPLY = re.compile(r"^mul\.|^addcmul$|MulFunctor|addcmul_")  # operators on a CPU; PyTorch's kernels on CUDA


def skipped_part_launched(name: str, facts: DecodeFacts) -> Check:
    """No arm launches a part that is off, and each part launches something where it is on."""
    if facts.launches is None or not set(ARMS) <= set(facts.launches):
        message = "what the arms launch was not counted, so nothing proves that a part which is off launches nothing"
        return Check("skipped_part_launched", BLOCKING, name, None, 0.0, message, True)
    nothing = ["cmp"] if facts.geometry.S < facts.geometry.cmp_block else []  # there is no compressed token yet
    faults = list(_faults(facts.launches, nothing))
    message = "; ".join(faults) or "no arm launched a part that was off"
    return Check("skipped_part_launched", BLOCKING, name, float(len(faults)), 0.0, message, bool(faults))


def _faults(launches: Launches, nothing: Iterable[str]) -> Iterable[str]:
    """What is wrong, a clause each.

    Args:
        nothing: parts that may launch nothing where they are on.
    """
    counts = {arm: _counted(kernels) for arm, kernels in launches.items()}
    for part, arms in PARTS.items():
        own = counts[arms.alone] - counts[arms.without]  # of Counters: what is positive
        if part not in nothing and not any(kernel != GATED_SUM for kernel in own):
            yield f"arm {arms.alone} launched nothing that arm {arms.without} did not: {part} runs in both, or in none"
        allowed = counts["all"].copy()
        allowed.subtract(own)
        for arm in arms.off:
            beyond = [(kernel, count) for kernel, count in counts[arm].items() if count > allowed[kernel]]
            if beyond:
                kernel, count = beyond[0]
                more = f", and {len(beyond) - 1} more kernels too often" if len(beyond) > 1 else ""
                yield (
                    f"arm {arm} launched {kernel} {count} times, at most {max(0, allowed[kernel])} without {part}{more}"
                )


def _counted(kernels: Mapping[str, int]) -> Counter[str]:
    """How often an arm launches each kernel, the gated sum's as one."""
    counts: Counter[str] = Counter()
    for kernel, count in kernels.items():
        counts[GATED_SUM if MULTIPLY.search(kernel) else kernel] += count
    return counts
