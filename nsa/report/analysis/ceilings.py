"""Amdahl's ceilings: how many times as fast a step would be without one of its parts (docs/verdicts.md)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nsa.report.analysis.stats import Estimate, log_interval

STEP_PARTS = ("fixed", "cmp", "route", "sel", "win")


def ceilings(arm: Mapping[str, NDArray[np.float64]], confidence: float) -> dict[str, Estimate]:
    """T(all) over T(all) less a part, by part, from T_p of each arm [process] in ms.

    Selection's part is what leaving it out saves; the others' are their own times: T(only that part) - T(none), of
    routing T(cmp + route) - T(cmp), of the fixed work T(none). A part that seems to take the whole step has no ceiling.
    """
    total, none = arm["all"], arm["none"]
    parts = {
        "fixed": none,
        "cmp": arm["cmp"] - none,
        "route": arm["cmp_route"] - arm["cmp"],
        "sel": total - arm["all_without_sel"],
        "win": arm["win"] - none,
    }
    return {part: log_interval(total / (total - ms), confidence) for part, ms in parts.items() if (ms < total).all()}
