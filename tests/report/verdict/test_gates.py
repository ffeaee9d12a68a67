"""Every state of both gates is reachable, and reached for its reason only."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from synthetic import CPU, GPU, OLD, decode_facts

from nsa.config import GateSettings, InvestThresholds
from nsa.records.outcome import Invalid, Ok, OutOfMemory, Stale
from nsa.report.analysis.read import Cell, cell_name, read_check
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import ArmFigures, CellFigures, CellSummary
from nsa.report.verdict.checks import BLOCKING, WARNING, Check
from nsa.report.verdict.gates import accept, invest

if TYPE_CHECKING:
    from nsa.report.verdict.gates import Accept, Invest
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
    arms = replace(arms, sel_loo_pct=share if loo is None else Estimate(loo, low, high, processes))
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
    ],
)
def test_not_measured_names_what_is_missing(cells: list[CellSummary], reason: str) -> None:
    """A target context that no GPU measured is not decided by the others."""
    verdict = decide(*cells)
    assert verdict.verdict == "NOT MEASURED"
    assert reason in verdict.reason


def test_only_the_baseline_and_the_targets_decide() -> None:
    """A candidate's share, or a context that no target is, says nothing about the investment."""
    others = [cell(256, 1.0, 2.0, backend="cuda"), cell(512, 1.0, 2.0)]
    assert decide(cell(128), cell(256), *others).verdict == "GO"


def judged(lab: Lab, **check: object) -> Accept:
    """What the accept gate says of a kernel check by itself."""
    return accept("cuda", read_check(lab.check("cuda", **check), lab.stamps), (), lab.config.check, GATES)


def test_accept_needs_every_shape_correct_and_fast(lab: Lab) -> None:
    """The bound of the worst shape is what is promised."""
    verdict = judged(lab)
    assert (verdict.verdict, len(verdict.shapes)) == ("ACCEPT", 4)
    assert "All 4 shapes are correct, and at least 1.99 times as fast" in verdict.reason
    assert {shape.figures.winner for shape in verdict.shapes} == {"gather"}


SHAPE = {"backend": "cuda", "value_dim": 64, "sel_count": 8}  # one shape of the lab's four


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ({"mae": 1.1e-3}, "MAE 0.0011 > 0.001"),
        ({"mae": float("nan")}, "MAE nan > 0.001"),
        ({"oracle_error": 3.9e-3}, "oracle error 0.0039 > 2 x 0.0019 of packed SDPA"),
        ({"oracle_error": float("nan")}, "oracle error nan"),
        ({"fault": "an input changed"}, "fault: an input changed"),
    ],
)
def test_one_wrong_result_rejects_whatever_the_speed(lab: Lab, new: dict[str, object], reason: str) -> None:
    """Each criterion rejects by itself, on one seed of one shape."""
    verdict = judged(lab, alter=({**SHAPE, "seed": 1}, new))
    assert verdict.verdict == "REJECT"
    assert verdict.reason.startswith("1 of 4 shapes fail: N=256 h=4 D=64 Dv=64 n=8: ")
    assert reason in verdict.reason
    assert [shape.correct for shape in verdict.shapes] == [False, True, True, True]
    assert verdict.wrong_shapes == ["N=256 h=4 D=64 Dv=64 n=8"]


def test_a_slow_shape_rejects_with_its_figures(lab: Lab) -> None:
    """The lower bound decides: a point above 1.2 whose interval reaches below is no 1.2."""
    verdict = judged(lab, speedup=1.201)
    assert verdict.verdict == "REJECT"
    assert "lower bound < 1.2" in verdict.reason
    speedups = [shape.figures.speedup for shape in verdict.shapes if shape.verdict == "REJECT"]
    assert any(speedup is not None and speedup.low < 1.2 <= speedup.value for speedup in speedups)
    assert all(shape.correct for shape in verdict.shapes)


def test_the_fastest_correct_variant_is_the_rival(lab: Lab) -> None:
    """A wrong variant is no rival however fast, and a slow one no straw man."""
    wrong = judged(lab, speedup=1.1, alter=({"backend": "sdpa:gather", "seed": 0}, {"fault": "NaN"}))
    assert wrong.verdict == "ACCEPT"
    assert {shape.figures.winner for shape in wrong.shapes} == {"varlen"}
    assert wrong.shapes[0].figures.excluded == ("gather",)


@pytest.mark.parametrize(
    ("check", "reason"),
    [
        ({"processes": 1}, "too few replicates"),
        ({"drop": {"seed": 1}}, "1 of 2 seeds were checked"),
        ({"alter": ({"seed": 1}, {"seed": 0})}, "1 of 2 seeds were checked"),
        ({"drop": {"backend": "cuda", "process": 0, "seed": None}, "processes": 1}, "correct, not timed"),
        ({"alter": ({"mae": 1e-5}, {"mae": None})}, "0 of 2 seeds were checked"),
        ({"status": "unavailable"}, "cuda is unavailable (cuda is not here)"),
        ({"said": {"stamp": OLD}}, "cuda is STALE (sources changed since it was measured)"),
    ],
)
def test_a_kernel_that_was_not_measured_is_neither_accepted_nor_rejected(
    lab: Lab, check: dict[str, object], reason: str
) -> None:
    """Missing figures pass neither for good ones nor for bad ones."""
    verdict = judged(lab, **check)
    assert verdict.verdict == "NOT MEASURED"
    assert reason in verdict.reason


def test_without_a_correct_variant_nothing_is_compared(lab: Lab) -> None:
    """A speedup over a wrong reference proves nothing."""
    verdict = judged(
        lab, alter=({"mae": 1e-5, "backend": "sdpa:gather"}, {"fault": "NaN"}), drop={"backend": "sdpa:varlen"}
    )
    assert verdict.verdict == "NOT MEASURED"
    assert "no correct packed SDPA variant was timed (not correct: gather)" in verdict.reason


def test_a_missing_shape_is_not_accepted(lab: Lab) -> None:
    """Three good shapes of four are not the grid."""
    assert judged(lab, drop={"value_dim": 64, "sel_count": 8}).verdict == "NOT MEASURED"


def test_without_a_gpu_correctness_is_shown_and_nothing_decided(lab: Lab) -> None:
    """A CPU accepts no kernel, and a wrong result stays visible there."""
    assert judged(lab, device="cpu").reason == (
        "No CUDA device: nothing was timed; on the CPU 4 of 4 shapes are correct."
    )
    wrong = judged(lab, device="cpu", alter=(SHAPE, {"mae": 1.0}))
    assert (wrong.verdict, "1 are WRONG" in wrong.reason) == ("NOT MEASURED", True)


def test_no_record_is_not_measured(lab: Lab) -> None:
    """A candidate without a kernel check is named."""
    assert accept("fa2", None, (), lab.config.check, GATES).reason == "fa2 has no kernel check record."


def test_thresholds_come_from_the_settings() -> None:
    """The thresholds of config.yaml decide."""
    strict = GATES.model_copy(update={"invest": InvestThresholds(go=0.5)})
    assert invest("sdpa", (128,), [cell(128)], (), strict).verdict == "INCONCLUSIVE"
