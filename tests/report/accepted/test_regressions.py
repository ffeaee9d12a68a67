"""The comparison with an accepted run keeps its promises on simulated runs, in which the truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from simulation import Machine, each_run, simulate
from synthetic import GPU
from synthetic_cell import decode_facts
from synthetic_check import check_facts

from nsa.config import GateSettings, RegressionThresholds
from nsa.records.made import AcceptedHeader
from nsa.records.outcome import Ok
from nsa.records.shapes import AXES, GridShape
from nsa.records.words import CONTROLS
from nsa.report.accepted.compare import Line, compared
from nsa.report.accepted.keep import CHECK, DECODE, MEDIANS, AcceptedRun
from nsa.report.accepted.relative import relative_change
from nsa.report.analysis.read import Cell, Record, cell_name
from nsa.report.analysis.rows import to_frame
from nsa.report.analysis.stats import Estimate, process_times
from nsa.report.analysis.summary import CellSummary
from nsa.report.verdict.invest import Invest
from nsa.report.verdict.run import Run

RUNS, PROCESSES = 100, 10  # of the decision setting
CONTEXTS = (128, 256, 512, 1024)
SHAPES = [(256, 4, 64, 64, 8), (256, 4, 64, 64, 16), (256, 4, 64, 128, 8), (1024, 8, 128, 128, 16)]
CHANGES = {  # of the candidate alone, and of all that today's run timed
    "unchanged": (1.0, 1.0),
    "all 5 % slower": (1.0, 1.05),
    "5 % slower, all 5 % faster": (1.05, 1 / 1.05),
    "10 % slower": (1.1, 1.0),
    "10 % faster": (1 / 1.1, 1.0),
}
Lines = tuple[Line, ...]
SAME: dict[str, dict[str, str]] = {"decode": {}, "check": {}}  # nothing that is timed differs
HEADER = AcceptedHeader(
    model=GPU.name,
    device="cuda",
    accepted_utc="2026-11-22T10:00:00+00:00",
    git_commit="abc123",
    git_dirty=False,
    software={},
    timed={"decode": {}, "check": {}},
    records={},
)


def run() -> Run:
    """A run in which every cell and a kernel check may be used."""
    cells = [Cell("cuda", cell_name("cuda", S), Ok(facts=decode_facts(S, "cuda", 1)), GPU, S=S) for S in CONTEXTS]
    check = Record("cuda", "check_cuda", Ok(facts=check_facts("cuda", 1)), GPU)
    summaries = tuple(CellSummary(cell, None) for cell in cells)
    return Run(summaries, {"cuda": check}, {}, {}, (), Invest("GO", "", "sdpa", ()), (), ())


@cache
def times(seed: int) -> list[pd.DataFrame]:
    """Rows of MEDIANS for each of RUNS runs: cells and shapes, each beside the control of its processes."""
    arms_ms = {f"S{S}": 0.098 for S in CONTEXTS} | {f"shape{place}": 0.06 for place in range(len(SHAPES))}
    arms_ms |= dict.fromkeys(CONTROLS, 0.09)
    found = []
    places = {f"S{S}": {"kind": DECODE, "S": S} for S in CONTEXTS}
    places |= {
        f"shape{place}": {"kind": CHECK, **dict(zip(AXES, shape, strict=True))} for place, shape in enumerate(SHAPES)
    }
    for one in each_run(process_times(simulate(seed, RUNS, PROCESSES, arms_ms, Machine(), iters=8), 0.0), RUNS):
        rows: list[dict[str, object]] = []
        for place, where in places.items():
            of_kernel = "all" if where["kind"] == DECODE else None
            for arm, timed in ((of_kernel, place), *zip(CONTROLS, CONTROLS, strict=True)):
                known = {**where, "backend": "cuda", "arm": arm}
                rows += [{**known, "process": process, "time_ms": ms} for process, ms in one[timed].items()]
        found.append(to_frame(pa.Table.from_pylist(rows, schema=MEDIANS)))
    return found


def compare_all(factor: float, slow: tuple[int, tuple[int, ...]] | None = None, common: float = 1.0) -> list[Lines]:
    """The lines of RUNS comparisons with an accepted run of which every time, or that of one S and shape, changed.

    Args:
        factor: of the candidate alone.
        slow: the S and the shape that changed; None for all.
        common: of everything that today's run timed, the control included.
    """
    gates = GateSettings(regression=RegressionThresholds(margin=0.05))
    found = []
    for before, now in zip(times(1), times(2), strict=True):
        slower = pd.Series(True, now.index) if slow is None else now["S"] == slow[0]
        if slow is not None:
            slower |= (now[list(AXES)] == list(slow[1])).all(axis=1)
        slower &= ~now["arm"].isin(CONTROLS)
        today = now.assign(time_ms=common * now["time_ms"] * slower.map({True: factor, False: 1.0}))
        accepted = AcceptedRun(Path("accepted/gpu.parquet"), HEADER, before)
        found.append(compared(run(), accepted, today, SAME, gates))
    return found


def test_injected_changes_between_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that lost 5 % is slower in 95 of 100 runs, whatever the machine did, and a machine that did is not."""
    words = ("slower", "faster", "same", "too few replicates")
    shown = [
        f"of {RUNS} simulated comparisons with an accepted run ({PROCESSES} processes), so many say in every line:"
    ]
    shown.append(f"{'today':<26}" + "".join(f"{word:>20}" for word in (*words, "mixed", "beyond 5 %")))
    said, failed = {}, {}
    for name, (factor, common) in CHANGES.items():
        found = compare_all(factor, common=common)
        verdicts = [{line.verdict for line in lines} for lines in found]
        said[name] = Counter(seen.copy().pop() if len(seen) == 1 else "mixed" for seen in verdicts)
        failed[name] = sum(any(line.regression for line in lines) for lines in found)
        counts = "".join(f"{said[name][word]:>20}" for word in (*words, "mixed"))
        shown.append(f"{name:<26}{counts}{failed[name]:>20}")
    with capsys.disabled():
        print("", *shown, sep="\n")
    for machine in ("unchanged", "all 5 % slower"):
        assert said[machine]["same"] >= 95
        assert failed[machine] == 0
    for kernel in ("5 % slower, all 5 % faster", "10 % slower"):
        assert said[kernel]["slower"] >= 95
    assert failed["5 % slower, all 5 % faster"] <= 5  # not surely beyond a margin of 5 %
    assert failed["10 % slower"] >= 95
    assert said["10 % faster"]["faster"] >= 95 and failed["10 % faster"] == 0


def test_one_slow_cell_and_shape_are_found_and_no_other_is_blamed() -> None:
    """A kernel that lost 12 % at one context or shape only is found there, and nowhere else."""
    found = [{line.where: line for line in lines} for lines in compare_all(1.12, (512, SHAPES[2]))]
    worst = f"worst shape: {GridShape(*SHAPES[2])}"
    assert sum(lines["S = 512"].regression for lines in found) >= 95
    assert sum(worst in lines and lines[worst].regression for lines in found) >= 95
    assert sum(any(lines[f"S = {S}"].verdict != "same" for S in (128, 256, 1024)) for lines in found) <= 5


def test_all_intervals_of_a_report_hold_together() -> None:
    """Each line has its share of the error, and each shape among which the worst is looked for a share of that."""
    before, now = times(1)[0], times(2)[0]
    lines = compared(run(), AcceptedRun(Path("b.parquet"), HEADER, before), now, SAME, GateSettings(confidence=0.95))
    confidence = 1 - 0.05 / len(lines)
    step, worst = lines[0], lines[-1]

    def between(where: Callable[[pd.DataFrame], pd.Series[bool]], confidence: float) -> Estimate:
        (one, *then), (other, *today) = (
            [rows[where(rows) & arm].set_index("process")["time_ms"] for arm in (kernel(rows), *fixed(rows))]
            for rows in (before, now)
        )
        control = [dict(zip(CONTROLS, times, strict=True)) for times in (then, today)]
        return relative_change(one, other, control, confidence).ratio

    def kernel(rows: pd.DataFrame) -> pd.Series[bool]:
        return ~rows["arm"].isin(CONTROLS)

    def fixed(rows: pd.DataFrame) -> list[pd.Series[bool]]:
        return [rows["arm"] == name for name in CONTROLS]

    assert step.ratio == between(lambda rows: rows["S"] == 128, confidence)
    shape = next(shape for shape in SHAPES if str(GridShape(*shape)) in worst.where)
    each = 1 - 0.05 / len(lines) / len(SHAPES)
    assert worst.ratio == between(lambda rows: (rows[list(AXES)] == list(shape)).all(axis=1), each)
