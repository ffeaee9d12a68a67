"""Synthetic runs that are kept as `nsa accept` keeps them, and others beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from judged import judged
from synthetic import ABOUT

from nsa.report.accepted.compare import Comparison, Line, compare
from nsa.report.accepted.keep import keep

if TYPE_CHECKING:
    from pathlib import Path

    from nsa.config import Config
    from tests.report.conftest import Lab

Files = tuple[list["Path"], list["Path"]]


def on(day: int) -> dict[str, object]:
    """A header of a record that was measured on this day."""
    return {"provenance": ABOUT.model_copy(update={"utc_time": f"2026-11-{day}T10:00:00+00:00"})}


def measure(
    lab: Lab,
    speedup: float = 2.0,
    check: dict[str, object] | None = None,
    said: dict[str, object] | None = None,
    day: int = 23,
    **cell: object,
) -> Files:
    """The records of one run; its cuda cell and check can be made slower."""
    of_day = on(day)
    cells = [lab.cell("sdpa", S, processes=10, said=of_day) for S in (128, 2048)]
    cells.append(lab.cell("cuda", 2048, **{"processes": 10, **cell}, said={**of_day, **(said or {})}))
    made = {"speedup": speedup, "processes": 10, "said": of_day, **(check or {})}
    return cells, [lab.check("cuda", **made)]


def accept(lab: Lab, files: Files, *, cpu: bool = False) -> None:
    """Keep a run as `nsa accept` does."""
    keep(judged(lab, *files), lab.config, lab.accepted, cpu=cpu)


def against(lab: Lab, files: Files, config: Config | None = None) -> Comparison:
    """A run beside the accepted one."""
    return compare(judged(lab, *files), lab.accepted, config or lab.config)


def lines(found: Comparison) -> dict[tuple[str, str], Line]:
    """The lines by backend and context; those of a kernel check by their kind."""
    return {(line.backend, line.where.partition(" of ")[0].partition(":")[0]): line for line in found.lines}


def verdicts(found: Comparison) -> dict[tuple[str, str], str]:
    """What is said of each backend and context."""
    return {key: line.verdict for key, line in lines(found).items()}


def decode(config: Config, **changes: object) -> Config:
    """A configuration with other settings of decode."""
    return config.model_copy(update={"decode": config.decode.model_copy(update=changes)})
