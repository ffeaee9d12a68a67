"""Every state of the invest gate is reachable, and reached for its reason only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from synthetic import CPU, GPU
from synthetic_cell import EMISSION_MS, PARTS_MS, WEIGHT, decode_facts

from nsa.config import GateSettings, InvestThresholds
from nsa.records.outcome import Invalid, Ok, OutOfMemory, Stale
from nsa.report.analysis.read import Cell, cell_name
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import ArmFigures, CellFigures, CellSummary
from nsa.report.verdict.checks import Check
from nsa.report.verdict.invest import invest, share_verdict
from nsa.report.verdict.words import BLOCKING, WARNING

if TYPE_CHECKING:
    from nsa.report.verdict.invest import Invest
    from tests.report.conftest import Lab

GATES = GateSettings()
ONE = Estimate(1.0, 1.0, 1.0, 3)
ARMS = ArmFigures(*[ONE] * 13)


def cell(
    S: int = 128,
    low: float = 31.0,
    high: float = 33.0,
    *,
    loo: float | None = None,
    processes: int = 3,
    backend: str = "sdpa",
    device: str = "cuda",
    outcome: Stale | Invalid | OutOfMemory | None = None,
) -> CellSummary:
    """A cell with a selection share; `loo` is the share by leaving selection out, where it is another."""
    middle = 32.0 if math.isinf(low) else (low + high) / 2
    share = Estimate(middle, low, high, processes)
    facts, arms = decode_facts(S, device, processes), replace(ARMS, sel_pct=share)
    arms = replace(arms, sel_loo_pct=share if loo is None else Estimate(loo, loo - 1, loo + 1, processes))
    card = GPU if device == "cuda" else CPU
    record = Cell(backend, cell_name(backend, S), outcome or Ok(facts=facts), card, S=S)
    return CellSummary(record, None if outcome else CellFigures(backend, S, facts, arms, None, None, None, None, 0))


def alone(S: int) -> CellSummary:
    """A cell of one process."""
    return cell(S, -math.inf, math.inf, processes=1)


def decide(*cells: CellSummary, checks: tuple[Check, ...] = (), targets: tuple[int, ...] = (128, 256)) -> Invest:
    """What the invest gate says of these cells."""
    return invest("sdpa", targets, cells, checks, GATES)


def test_go_needs_every_lower_bound_at_30() -> None:
    """The lower bound decides, not the point: 32 % ± 3 is no GO."""
    verdict = decide(cell(128, 30.0, 34.0), cell(256, 41.0, 43.0))
    assert verdict.verdict == "GO"
    assert verdict.reason == (
        "Selection takes at least 30 % of the sdpa step at every target context: "
        "the smallest lower 95 % bound is 30.0 % (S = 128)."
    )
    assert decide(cell(128, 29.9, 34.0), cell(256, 41.0, 43.0)).verdict == "INCONCLUSIVE"


def test_no_go_needs_every_upper_bound_below_25() -> None:
    """An upper bound of exactly 25 % is not below it."""
    verdict = decide(cell(128, 10.0, 12.0), cell(256, 22.0, 24.9))
    assert verdict.verdict == "NO-GO"
    assert "the largest upper 95 % bound is 24.9 % (S = 256)" in verdict.reason
    assert decide(cell(128, 10.0, 12.0), cell(256, 22.0, 25.0)).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([cell(128, 26.0, 29.0), cell(256)], "S = 128: borderline: 27.5 % [26.0, 29.0] over 3 processes"),
        ([alone(128), cell(256)], "S = 128: too few replicates: one process gives 32.0 % no interval"),
        (
            [cell(128, 29.0, 35.0), cell(256)],
            "S = 128: too few replicates: 32.0 % [29.0, 35.0] over 3 processes reaches across 30 %; more processes",
        ),
        ([cell(128, 22.0, 26.0), cell(256, 10.0, 12.0)], "24.0 % [22.0, 26.0] over 3 processes reaches across 25 %;"),
        (
            [cell(128, 15.0, 39.0), cell(256)],
            "S = 128: too few replicates: 27.0 % [15.0, 39.0] over 3 processes reaches",
        ),
        ([cell(128, 10.0, 12.0), cell(256)], "The contexts disagree: GO at S = 256, NO-GO at S = 128."),
        ([cell(128, loo=28.9), cell(256)], "S = 128: ms_sel and ms_sel_loo disagree: 32.0 % and 28.9 %"),
        ([cell(128, loo=28.9), cell(256)], "of ms_total, more than 3 points apart"),
        ([cell(128, 67.0, 69.0, loo=62.9), cell(256)], "S = 128: ms_sel and ms_sel_loo disagree: 68.0 % and 62.9 %"),
    ],
)
def test_inconclusive_says_why(cells: list[CellSummary], reason: str) -> None:
    """Every way to be INCONCLUSIVE has its reason, by which one knows what to measure next."""
    verdict = decide(*cells)
    assert verdict.verdict == "INCONCLUSIVE"
    assert reason in verdict.reason


def test_contexts_that_disagree_are_named_beside_the_undecided_ones() -> None:
    """Contexts that contradict each other are named first, before those that are undecided."""
    verdict = decide(cell(128, 26.0, 29.0), cell(256), cell(512, 10.0, 12.0), targets=(128, 256, 512))
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.reason.startswith("The contexts disagree: GO at S = 256, NO-GO at S = 512. S = 128: borderline")


def test_shares_three_points_apart_still_agree() -> None:
    """The threshold is more than 3 points."""
    assert decide(cell(128, loo=29.1), cell(256)).verdict == "GO"


def test_shares_that_are_far_above_and_apart_decide_nothing() -> None:
    """The rule knows no exception: 68 % and 64.5 % are both far above 30 %, and 3.5 points apart."""
    assert decide(cell(128, 67.0, 69.0, loo=64.5), cell(256)).verdict == "INCONCLUSIVE"


def test_a_blocking_check_on_a_deciding_cell_blocks_the_verdict() -> None:
    """A cell that failed a blocking check decides nothing; warnings and checks of other cells change nothing."""

    def check(severity: str, name: str, fired: bool = True) -> Check:
        return Check("reads_differ", severity, name, 1.0, 2.0, "1 read, 2 expected", fired)

    blocked = decide(cell(128), cell(256), checks=(check(BLOCKING, "sdpa/S256"),))
    assert blocked.verdict == "INCONCLUSIVE"
    assert blocked.reason == "S = 256: blocked by reads_differ (1 read, 2 expected)."
    harmless = (check(WARNING, "sdpa/S128"), check(BLOCKING, "cuda/S128"), check(BLOCKING, "sdpa/S128", fired=False))
    assert decide(cell(128), cell(256), checks=harmless).verdict == "GO"


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([cell(128)], "S = 256: sdpa has no record."),
        (
            [cell(128), cell(256, outcome=Stale(reason="sources changed", fix="f"))],
            "S = 256: sdpa is STALE (sources changed).",
        ),
        ([cell(128), cell(256, outcome=Invalid(reason="broken", fix="f"))], "S = 256: sdpa is INVALID (broken)."),
        ([cell(128), cell(256, outcome=OutOfMemory(reason="no memory", fix="f"))], "S = 256: sdpa is oom (no memory)."),
        ([cell(128, device="cpu"), cell(256, device="cpu")], "At every target context: no CUDA device measured it"),
        ([], "At every target context: sdpa has no record."),
    ],
)
def test_not_measured_names_what_is_missing(cells: list[CellSummary], reason: str) -> None:
    """A target context that no GPU measured is not decided by the others."""
    verdict = decide(*cells)
    assert verdict.verdict == "NOT MEASURED"
    assert reason in verdict.reason


def test_contexts_with_one_reason_are_named_together() -> None:
    """A reason is read once, however many contexts it holds for."""
    broken = cell(128, outcome=Invalid(reason="broken", fix="f"))
    verdict = invest("sdpa", (128, 256, 512), [broken, cell(256, device="cpu"), cell(512, device="cpu")], (), GATES)
    assert verdict.reason.startswith("S = 128: sdpa is INVALID (broken); S = 256, 512: no CUDA device measured it, and")


def test_a_gpu_that_torch_cannot_use_is_named() -> None:
    """A user who has a GPU is not told to look for one."""
    found = invest(
        "sdpa", (128,), [cell(128, device="cpu")], (), GATES, "the driver shows RTX, which torch cannot use: x"
    )
    assert "no CUDA device measured it (the driver shows RTX, which torch cannot use: x), and CPU" in found.reason


def test_only_the_baseline_and_the_targets_decide() -> None:
    """A candidate's share, or a context that no target is, says nothing about the investment."""
    others = [cell(256, 1.0, 2.0, backend="cuda"), cell(512, 1.0, 2.0)]
    assert decide(cell(128), cell(256), *others).verdict == "GO"


def test_thresholds_come_from_the_settings() -> None:
    """The thresholds of config.yaml decide."""
    strict = GATES.model_copy(update={"invest": InvestThresholds(go=0.5)})
    assert invest("sdpa", (128,), [cell(128)], (), strict).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("variants", "verdict", "winner"),
    [
        ({"varlen": 0.015}, "NO-GO", "varlen"),  # 15 of 73 µs
        ({"varlen": 0.022}, "INCONCLUSIVE", "varlen"),  # 22 of 80
        ({"varlen": 0.028}, "GO", "varlen"),  # 28 of 86
        ({"varlen": 0.060, "blocks": 0.080}, "GO", "gather"),  # 40 of 98
    ],
)
def test_the_fastest_packing_decides_and_is_named(
    lab: Lab, variants: dict[str, float], verdict: str, winner: str
) -> None:
    """The share is that of the packing with the smallest ms_total, whatever the cell's own is."""
    run = lab.run([lab.cell(variants=variants, parts={"overlap": 0.0}, noise=1e-5)])
    found = invest("sdpa", [2048], run.cells, (), GATES)
    assert found.verdict == verdict and found.contexts[0].variant == winner
    assert verdict == "INCONCLUSIVE" or f"packed by {winner}, the fastest" in found.reason


def test_of_four_packings_that_say_three_things_the_fastest_decides(lab: Lab) -> None:
    """Shares that one H100 gave at S = 4096: by the packing NO-GO, INCONCLUSIVE or GO; each one's is kept."""
    shares = {"varlen": 0.221, "gather": 0.279, "blocks": 0.308, "index_select": 0.361}
    rest = sum(ms for part, ms in PARTS_MS.items() if part not in ("sel", "overlap")) + WEIGHT * EMISSION_MS
    taken = {name: rest * share / (1 - share) for name, share in shares.items()}
    own = {"sel": taken.pop("gather"), "overlap": 0.0}
    run = lab.run([lab.cell(S=4096, variants=taken, parts=own, noise=1e-4)])
    figures = run.cells[0].figures
    assert figures is not None
    assert {name: round(arms.sel_pct.value / 100, 3) for name, arms in figures.variants.items()} == shares
    alone = {name: share_verdict(arms, GATES)[0] for name, arms in figures.variants.items()}
    assert alone == {"varlen": "NO-GO", "gather": "INCONCLUSIVE", "blocks": "GO", "index_select": "GO"}
    found = invest("sdpa", [4096], run.cells, (), GATES)
    assert (found.verdict, found.contexts[0].variant) == ("NO-GO", "varlen")
    assert "(S = 4096, packed by varlen, the fastest)" in found.reason


def test_packings_that_are_as_fast_and_disagree_leave_it_open(lab: Lab) -> None:
    """Where ms_total cannot tell two packings apart and their verdicts differ, more processes are asked for."""
    run = lab.run([lab.cell(variants={"varlen": 0.0399}, parts={"overlap": 0.0}, noise=1e-2)])
    cell = run.cells[0]
    assert cell.figures is not None
    share = Estimate(20.0, 19.0, 21.0, 3)
    other = "gather" if cell.figures.variant == "varlen" else "varlen"
    arms = replace(cell.figures.variants[other], sel_pct=share, sel_loo_pct=share)
    figures = replace(cell.figures, variants={**cell.figures.variants, other: arms})
    found = invest("sdpa", [2048], [replace(cell, figures=figures)], (), GATES)
    assert found.verdict == "INCONCLUSIVE"
    assert f"{other} says NO-GO, whose ms_total cannot be told from it" in found.reason


def test_the_largest_part_of_the_step_is_named_with_its_ceiling(lab: Lab) -> None:
    """Where routing is larger than selection, the reader is told what it could win, and selection beside it."""
    run = lab.run([lab.cell(parts={"route": 0.120}, noise=1e-5)])
    found = invest("sdpa", [2048], run.cells, (), GATES)
    assert found.next_part is not None
    assert (
        "The largest part of the sdpa step at S = 2048 is routing: without it the step would be 2.3" in found.next_part
    )
    assert invest("sdpa", [2048], lab.run([lab.cell(device="cpu")]).cells, (), GATES).next_part is None


def test_the_largest_part_is_not_read_from_a_blocked_cell(lab: Lab) -> None:
    """A cell whose outputs are not finite decides nothing; the next shorter context is named, or none."""
    wrong = {"facts": {"outputs_finite": False}}
    alone = lab.run([lab.cell("sdpa", 2048, **wrong)])
    assert invest("sdpa", [2048], alone.cells, alone.checks, GATES).next_part is None
    both = lab.run([lab.cell("sdpa", 128), lab.cell("sdpa", 2048, **wrong)])
    found = invest("sdpa", [128, 2048], both.cells, both.checks, GATES).next_part
    assert found is not None and "at S = 128" in found
