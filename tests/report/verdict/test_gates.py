"""Every state of both gates is reachable, and reached for its reason only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nsa.config import GateSettings
from nsa.errors import RecordError
from nsa.report.analysis.read import read_check
from nsa.report.verdict.checks import BLOCKING, WARNING, Check
from nsa.report.verdict.gates import accept, exit_status, invest

if TYPE_CHECKING:
    from pathlib import Path

    from nsa.report.verdict.gates import Accept, Invest
    from tests.report.conftest import Lab

GATES = GateSettings()


def row(S: int = 128, low: float | None = 31.0, high: float | None = 33.0, **changes: Any) -> dict[str, Any]:
    """A summary row of the baseline with a selection share."""
    share = 32.0 if low is None or high is None else (low + high) / 2
    sound = {"S": S, "backend": "sdpa", "status": "ok", "reason": None, "device": "cuda", "processes": 3}
    shares = {"sel_pct": share, "sel_pct_lo": low, "sel_pct_hi": high, "sel_loo_pct": share}
    return {**sound, **shares, "sel_loo_pct_lo": low, "sel_loo_pct_hi": high, **changes}


def decide(*rows: dict[str, Any], checks: tuple[Check, ...] = (), targets: tuple[int, ...] = (128, 256)) -> Invest:
    return invest("sdpa", targets, rows, checks, GATES)


def test_go_needs_every_lower_bound_at_30() -> None:
    """The point estimate must not decide: 32 % ± 3 is no GO."""
    verdict = decide(row(128, 30.0, 34.0), row(256, 41.0, 43.0))
    assert verdict.verdict == "GO"
    assert verdict.reason == (
        "Selection takes at least 30 % of the sdpa step at every target context: "
        "the smallest lower 95 % bound is 30.0 % (S = 128)."
    )
    assert decide(row(128, 29.9, 34.0), row(256, 41.0, 43.0)).verdict == "INCONCLUSIVE"


def test_no_go_needs_every_upper_bound_below_25() -> None:
    """An upper bound of exactly 25 % is not below it."""
    verdict = decide(row(128, 10.0, 12.0), row(256, 22.0, 24.9))
    assert verdict.verdict == "NO-GO"
    assert "the largest upper 95 % bound is 24.9 % (S = 256)" in verdict.reason
    assert decide(row(128, 10.0, 12.0), row(256, 22.0, 25.0)).verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(128, 26.0, 29.0), row(256)], "S = 128: borderline: 27.5 % [26.0, 29.0] over 3 processes"),
        (
            [row(128, None, None, processes=1), row(256)],
            "S = 128: too few replicates: one process gives 32.0 % no interval",
        ),
        (
            [row(128, 29.0, 35.0), row(256)],
            "S = 128: too few replicates: 32.0 % [29.0, 35.0] over 3 processes reaches across 30 %; more processes",
        ),
        ([row(128, 22.0, 26.0), row(256, 10.0, 12.0)], "24.0 % [22.0, 26.0] over 3 processes reaches across 25 %;"),
        ([row(128, 15.0, 39.0), row(256)], "S = 128: too few replicates: 27.0 % [15.0, 39.0] over 3 processes reaches"),
        ([row(128, 10.0, 12.0), row(256)], "The contexts disagree: GO at S = 256, NO-GO at S = 128."),
        ([row(128, sel_loo_pct=28.9), row(256)], "S = 128: ms_sel and ms_sel_loo disagree: 32.0 % and 28.9 %"),
        ([row(128, sel_loo_pct=28.9), row(256)], "of ms_total, more than 3 points apart"),
    ],
)
def test_inconclusive_says_why(rows: list[dict[str, Any]], reason: str) -> None:
    """Without its reason nobody knows what to measure next."""
    verdict = decide(*rows)
    assert verdict.verdict == "INCONCLUSIVE"
    assert reason in verdict.reason


def test_contexts_that_disagree_are_named_beside_the_undecided_ones() -> None:
    """Narrowing S = 128 would be wasted: the other two disagree whatever it says."""
    verdict = decide(row(128, 26.0, 29.0), row(256), row(512, 10.0, 12.0), targets=(128, 256, 512))
    assert verdict.verdict == "INCONCLUSIVE"
    assert verdict.reason.startswith("The contexts disagree: GO at S = 256, NO-GO at S = 512. S = 128: borderline")


def test_shares_three_points_apart_still_agree() -> None:
    """The threshold is more than 3 points."""
    assert decide(row(128, sel_loo_pct=29.1), row(256)).verdict == "GO"


def test_a_blocking_check_on_a_deciding_cell_blocks_the_verdict() -> None:
    """A share from a run that failed its own checks decides nothing; other cells and warnings do not matter."""

    def check(severity: str, cell: str, fired: bool = True) -> Check:
        return Check("reads_differ", severity, cell, 1.0, 2.0, "1 read, 2 expected", fired)

    blocked = decide(row(128), row(256), checks=(check(BLOCKING, "sdpa/S256"),))
    assert blocked.verdict == "INCONCLUSIVE"
    assert blocked.reason == "S = 256: blocked by reads_differ (1 read, 2 expected)."
    harmless = (check(WARNING, "sdpa/S128"), check(BLOCKING, "cuda/S128"), check(BLOCKING, "sdpa/S128", fired=False))
    assert decide(row(128), row(256), checks=harmless).verdict == "GO"


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(128)], "S = 256: sdpa has no record."),
        ([row(128), row(256, status="stale", reason="sources changed")], "S = 256: sdpa is STALE (sources changed)."),
        ([row(128), row(256, status="invalid", reason="broken")], "S = 256: sdpa is INVALID (broken)."),
        ([row(128), row(256, status="oom", reason="no memory")], "S = 256: sdpa is oom (no memory)."),
        ([row(128, device="cpu"), row(256, device="cpu")], "At every target context: no CUDA device measured it"),
    ],
)
def test_not_measured_names_what_is_missing(rows: list[dict[str, Any]], reason: str) -> None:
    """A target context that was not measured on a GPU must not be decided by the others."""
    verdict = decide(*rows)
    assert verdict.verdict == "NOT MEASURED"
    assert reason in verdict.reason


def test_only_the_baseline_and_the_targets_decide() -> None:
    """A candidate's share, or a context that no target is, says nothing about the investment."""
    others = [row(256, 1.0, 2.0, backend="cuda"), row(512, 1.0, 2.0)]
    assert decide(row(128), row(256), *others).verdict == "GO"


def judged(lab: Lab, **check: Any) -> Accept:
    record = read_check(lab.check("cuda", **check), lab.stamps)
    return accept("cuda", record, lab.settings.check, GATES)


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
def test_one_wrong_result_rejects_whatever_the_speed(lab: Lab, new: dict[str, Any], reason: str) -> None:
    """MAE alone passes a kernel that drops a token: each criterion must reject by itself, on one seed of one shape."""
    verdict = judged(lab, alter=({**SHAPE, "seed": 1}, new))
    assert verdict.verdict == "REJECT"
    assert verdict.reason.startswith("1 of 4 shapes fail: N=256 h=4 D=64 Dv=64 n=8: ")
    assert reason in verdict.reason
    assert [shape.correct for shape in verdict.shapes] == [False, True, True, True]


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
        ({"drop": {"backend": "cuda", "process": 0}, "processes": 1}, "correct, not timed"),
        ({"alter": ({"mae": 1e-5}, {"mae": None})}, "0 of 2 seeds were checked"),
        ({"status": "unavailable"}, "cuda is unavailable (cuda is not here)"),
        ({"facts": {"stamp": {}}}, "cuda is STALE (sources, settings, machine changed since it was measured)"),
    ],
)
def test_a_kernel_that_was_not_measured_is_neither_accepted_nor_rejected(
    lab: Lab, check: dict[str, Any], reason: str
) -> None:
    """Missing figures must not pass for good ones, nor for bad ones."""
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
    """A CPU cannot accept a kernel, but a wrong result stays visible there."""
    assert judged(lab, device="cpu").reason == (
        "No CUDA device: nothing was timed; on the CPU 4 of 4 shapes are correct."
    )
    wrong = judged(lab, device="cpu", alter=(SHAPE, {"mae": 1.0}))
    assert (wrong.verdict, "1 are WRONG" in wrong.reason) == ("NOT MEASURED", True)


def test_no_record_is_not_measured(lab: Lab) -> None:
    """A candidate without a kernel check is named, not forgotten."""
    assert accept("fa2", None, lab.settings.check, GATES).reason == "fa2 has no kernel check record."


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({}, 0, "invest: GO"),
        ({"invest": {"verdict": "NO-GO", "reason": "r"}}, 0, "invest: NO-GO"),
        ({"invest": {"verdict": "INCONCLUSIVE", "reason": "r"}}, 1, "invest is INCONCLUSIVE: r"),
        ({"invest": {"verdict": "NOT MEASURED", "reason": "r"}}, 3, "invest: NOT MEASURED"),
        ({"accept": {"cuda": {"verdict": "REJECT", "wrong_shapes": []}}}, 1, "cuda is rejected"),
        ({"accept": {"cuda": {"verdict": "NOT MEASURED", "wrong_shapes": ["x"]}}}, 1, "cuda gives wrong results"),
        ({"accept": {"cuda": {"verdict": "NOT MEASURED", "wrong_shapes": []}}}, 0, "invest: GO"),
        ({"anomalies": [{"severity": "blocking", "name": "n", "cell": "c", "message": "m"}]}, 1, "n on c: m"),
        ({"anomalies": [{"severity": "warning", "name": "n", "cell": "c", "message": "m"}]}, 0, "invest: GO"),
        ({"comparison": {"regressions": ["cuda decode, S = 128: slower by"]}}, 1, "cuda decode, S = 128: slower by"),
        ({"comparison": {"regressions": ["slower on a CPU"], "decides": False}}, 0, "invest: GO"),
        ({"comparison": {"status": "none"}}, 0, "invest: GO"),
        ({"comparison": {"status": "invalid", "reason": "the accepted run is INVALID"}}, 1, "run is INVALID"),
    ],
)
def test_exit_status(tmp_path: Path, change: dict[str, Any], status: int, said: str) -> None:
    """CI acts on the status alone: a rejected or wrong kernel must not look like success."""
    sound = {"invest": {"verdict": "GO", "reason": "r"}, "accept": {}, "anomalies": []}
    comparison = {"status": "compared", "reason": "c", "decides": True, "regressions": []}
    gate = {**sound, **change, "comparison": {**comparison, **change.get("comparison", {})}}
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(gate))
    found, line = exit_status(path)
    assert (found, said in line) == (status, True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"invest": 1}'])
def test_a_foreign_gate_json_is_one_clear_error(tmp_path: Path, content: str) -> None:
    """An exit status from a broken file would be a verdict from nothing."""
    path = tmp_path / "gate.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=r"gate\.json"):
        exit_status(path)
    with pytest.raises(RecordError, match="cannot be read"):
        exit_status(tmp_path / "none.json")


def test_thresholds_come_from_the_settings() -> None:
    """Thresholds live in config.yaml; a number in the code would ignore it."""
    strict = replace(GATES, invest={**GATES.invest, "go": 0.5})
    assert invest("sdpa", (128,), [row(128)], (), strict).verdict == "INCONCLUSIVE"
