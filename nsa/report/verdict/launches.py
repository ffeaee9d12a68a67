"""A part that is off launches nothing: what arms launched against what parts launch (docs/verdicts.md#the-launch-rule).

A part's own launches are those of the arm that runs it beyond those of the arm that differs from that one by the part
only. An arm then launches each kernel at most as often as the whole step does, less the own launches of every part that
is off in it. All of them together: selection and window may share a kernel, and one's absence must not hide the other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from nsa.records.decode import DecodeFacts
from nsa.records.words import ARMS, STEP
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING

Launches = Mapping[str, Mapping[str, int]]  # of each arm, how often it launches each kernel
PARTS = {  # the arm that runs the part and least beside it, and the arm without it
    "cmp": ("cmp", "none"),
    "route": ("cmp_route", "cmp"),
    "sel": ("sel", "none"),
    "win": ("win", "none"),
}
OFF = {arm: tuple(part for part in STEP if part not in on) for arm, on in ARMS.items() if on != STEP}  # of each arm
CORE = "core"  # the contract of a step that runs through a decode core
# The gated sum multiplies the first branch that ran and adds the others to it: one launch a branch, of either name.
# Or one launch of a kernel for all of them.
GATED_SUM = "the gated sum"
MULTIPLY = re.compile(r"^mul\.|^addcmul$|MulFunctor|addcmul_|^gated_sum$")  # on a CPU, PyTorch's on CUDA, and ours


def skipped_part_launched(name: str, facts: DecodeFacts) -> Check:
    """No arm launches a part that is off, and each part launches something where it is on."""
    if facts.launches is None or not set(ARMS) <= set(facts.launches):
        message = "what the arms launch was not counted, so nothing proves that a part which is off launches nothing"
        return Check("skipped_part_launched", BLOCKING, name, None, 0.0, message, True)
    nothing = ["cmp"] if facts.geometry.S < facts.geometry.cmp_block else []  # there is no compressed token yet
    if facts.contract == CORE:
        faults = list(_core_faults(facts.launches, nothing))
        if not facts.off_unread:
            faults.append("an output changes with the caches of parts that are off")
    else:
        faults = list(_faults(facts.launches, nothing))
    message = "; ".join(faults) or "no arm launched a part that was off"
    return Check("skipped_part_launched", BLOCKING, name, float(len(faults)), 0.0, message, bool(faults))


def _faults(launches: Launches, nothing: Iterable[str]) -> Iterable[str]:
    """What is wrong, a clause each.

    Args:
        nothing: parts that may launch nothing where they are on.
    """
    counts = {arm: _counted(kernels) for arm, kernels in launches.items()}
    own = {part: counts[alone] - counts[without] for part, (alone, without) in PARTS.items()}  # what is positive
    for part, (alone, without) in PARTS.items():
        if part not in nothing and not any(kernel != GATED_SUM for kernel in own[part]):
            yield f"arm {alone} launched nothing that arm {without} did not: {part} runs in both, or in none"
    for arm, parts in OFF.items():
        allowed = counts["all"].copy()
        for part in parts:
            allowed.subtract(own[part])
        if ARMS[arm]:
            allowed[GATED_SUM] = max(1, allowed[GATED_SUM])  # where one launch sums all branches
        beyond = [(kernel, count) for kernel, count in counts[arm].items() if count > max(0, allowed[kernel])]
        if beyond:
            kernel, count = beyond[0]
            more = f", and {len(beyond) - 1} more kernels too often" if len(beyond) > 1 else ""
            yield (
                f"arm {arm} launched {kernel} {count} times, at most {max(0, allowed[kernel])} without "
                f"{', '.join(parts)}{more}"
            )


def _core_faults(launches: Launches, nothing: Iterable[str]) -> Iterable[str]:
    """What is wrong of a core, which may be one kernel: each part is on where it should be, and none costs a launch
    more than the whole step; that a part which is off reads nothing, only its caches can show.
    """
    counts = {arm: Counter(kernels) for arm, kernels in launches.items()}
    most = counts["all"].total()
    for arm, parts in ARMS.items():
        if parts and not set(parts) <= set(nothing) and not counts[arm] - counts["none"]:
            yield f"arm {arm} launched nothing that arm none did not: its parts run in both, or in none"
        if counts[arm].total() > most:
            yield f"arm {arm} launched {counts[arm].total()} kernels, at most the {most} of arm all"


def _counted(kernels: Mapping[str, int]) -> Counter[str]:
    """How often an arm launches each kernel, the gated sum's as one."""
    counts: Counter[str] = Counter()
    for kernel, count in kernels.items():
        counts[GATED_SUM if MULTIPLY.search(kernel) else kernel] += count
    return counts
