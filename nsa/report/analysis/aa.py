"""A/A controls: the same thing timed twice under two names must not differ, in any of a run's controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from nsa.records.facts import Device
from nsa.report.analysis.stats import Estimate, each_of, rescaled


@dataclass(frozen=True)
class Control:
    """An A/A ratio with the interval that blocks.

    Attributes:
        ratio: its interval is at `confidence`, at which all controls of the run hold together.
        controls: how many there are.
    """

    ratio: Estimate
    confidence: float
    controls: int

    @property
    def excludes_one(self) -> bool:
        """Whether the two differ beyond chance."""
        return not self.ratio.low <= 1 <= self.ratio.high


def controls(ratios: Mapping[str, tuple[Device, Estimate]], confidence: float) -> dict[str, Control]:
    """The controls of one run, by the name of their record; a ratio of one process is none.

    Of m sound ones, plain 95 % intervals would block one in 1 - 0.95**m of the runs; so all intervals of one model of
    device hold at once with the given confidence, whichever of its cards measured a record.

    Args:
        ratios: of each record, what measured it and its ratio.
        confidence: of the ratios' own intervals.
    """
    able = {name: (device.kind, device.name) for name, (device, ratio) in ratios.items() if ratio.replicated}
    count = Counter(able.values())
    found = {}
    for name, model in able.items():
        together = each_of(count[model], confidence)
        found[name] = Control(rescaled(ratios[name][1], confidence, together), together, count[model])
    return found
