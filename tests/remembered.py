"""Runs of synthetic records on several days, as reports add them to the history."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from judged import judged
from synthetic import ABOUT

from nsa.report.history.store import add

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nsa.records.facts import Provenance
    from nsa.report.verdict.run import Run
    from tests.report.conftest import Lab


def on(day: int) -> Provenance:
    """Where a record comes from that was measured on one day in November, of a commit of that day."""
    changes = {"utc_time": f"2026-11-{day:02d}T10:00:00+00:00", "git_commit": f"commit{day:02d}"}
    return ABOUT.model_copy(update=changes)


def measure(
    lab: Lab,
    day: int,
    parts: Mapping[str, float] | None = None,
    speedup: float = 2.0,
    cores: bool = False,
    **cuda: object,
) -> tuple[list[Path], list[Path], list[Path]]:
    """The cells, kernel checks and core checks of one day in November.

    Args:
        parts: of the cuda cell, what takes another time than it usually does, in ms.
        speedup: of the cuda kernel in its check.
        cores: whether there is a core check, too.
        cuda: what else is unsound about the cuda cell.
    """
    said = {"provenance": on(day)}
    cells = [lab.cell("sdpa", S, processes=10, said=said) for S in (128, 2048)]
    cells.append(lab.cell("cuda", 2048, **{"processes": 10, "parts": parts, "said": said, **cuda}))
    checks = [lab.check("cuda", speedup=speedup, processes=10, said=said)]
    return cells, checks, [lab.core("fused", processes=10, said=said)] if cores else []


def remember(lab: Lab, day: int, **changes: object) -> Run:
    """Add a run of one day to the history, as its report does; the run as it was judged."""
    lab = replace(lab, config=lab.config.model_copy(update={"candidates": ("cuda", "fused")}))
    run = judged(lab, *measure(lab, day, **changes))
    add(lab.history, run, lab.accepted, lab.config)
    return run
