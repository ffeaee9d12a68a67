"""The checks of a kernel check: its control, its processes, and the packed variants beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import replicate

from nsa.records.facts import LeftOut
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING, WARNING

if TYPE_CHECKING:
    from tests.report.conftest import Lab

SHAPE = {"value_dim": 64, "sel_count": 8}
NAMED = "N=256 h=4 D=64 Dv=64 n=8"


def checks_of(lab: Lab, **check: object) -> dict[str, Check]:
    """The checks of one kernel check by name."""
    return {found.name: found for found in lab.run([], [lab.check("cuda", **check)]).checks}


def fired(lab: Lab, **check: object) -> dict[str, str]:
    """The severities of the checks that fired, by name."""
    return {name: found.severity for name, found in checks_of(lab, **check).items() if found.fired}


def verdict(lab: Lab, **check: object) -> tuple[str, str]:
    """What the gate says of a kernel, and why."""
    (found, *_) = lab.run([], [lab.check("cuda", **check)]).accepts
    return found.verdict, found.reason


def test_a_sound_check_fires_nothing(lab: Lab) -> None:
    """Every check is made on a sound record, and none cries."""
    checks = checks_of(lab)
    assert [found for found in checks.values() if found.fired] == []
    assert set(checks) == {
        *("record_invalid", "record_stale", "packed_variant_wrong", "packed_variant_refused", "aa_control"),
        "rival_missing",
        *("replicates_differ", "fact_missing", "control_moved", "throttled", "clock_spread", "other_processes"),
        *("torch_switched", "packed_sdpa_inaccurate", "baseline_disturbed", "clocks_disagree"),
        *("corners_missing", "corner_refused", "corner_skipped"),
    }


@pytest.mark.parametrize(
    ("name", "severity", "check"),
    [
        ("aa_control", BLOCKING, {"alter": ({"backend": "again:cuda"}, {"value_ns": 31_000})}),
        ("aa_control", BLOCKING, {"drop": {"backend": "again:cuda"}}),
        ("replicates_differ", WARNING, {"alter": ({"backend": "sdpa:varlen", "process": 1}, {"value_ns": 103_000})}),
        ("replicates_differ", BLOCKING, {"alter": ({"backend": "sdpa:varlen", "process": 1}, {"value_ns": 140_000})}),
        ("packed_variant_wrong", BLOCKING, {"alter": ({**SHAPE, "backend": "sdpa:varlen", "seed": 1}, {"mae": 0.5})}),
        (
            "packed_variant_refused",
            WARNING,
            {
                "drop": {**SHAPE, "backend": "sdpa:varlen"},
                "facts": {"left_out": (LeftOut(name="sdpa:varlen", shape=NAMED, reason="Dv = D only"),)},
            },
        ),
        ("rival_missing", BLOCKING, {"drop": {**SHAPE, "backend": "sdpa:varlen"}}),
        ("clock_spread", WARNING, {"alter": ({"process": 1}, {"sm_clock_mhz": 1500})}),
        (
            "clock_spread",
            WARNING,
            {"facts": {"replicates": tuple(replicate(p, sm_clock_min_mhz=900) for p in range(3))}},
        ),
        ("other_processes", WARNING, {"facts": {"other_processes": (17,)}}),
    ],
)
def test_a_fault_fires_its_check_alone(lab: Lab, name: str, severity: str, check: dict[str, object]) -> None:
    """One fault fires one check, with its severity."""
    assert fired(lab, **check) == {name: severity}


def slow(factor: float, backend: str = "cuda", us: float = 30) -> dict[str, object]:
    """A check of ten processes of which one times a kernel slower."""
    return {"processes": 10, "alter": ({"backend": backend, "process": 1}, {"value_ns": round(1e3 * us * factor)})}


def test_a_replicate_three_times_slower_is_not_accepted(lab: Lab) -> None:
    """A process in which something else was timed makes the verdict INCONCLUSIVE, whatever the bound says."""
    (found, *_) = lab.run([], [lab.check("cuda", **slow(3))]).accepts
    assert all(shape.verdict == "ACCEPT" for shape in found.shapes)
    verdict_, reason = verdict(lab, **slow(3))
    assert verdict_ == "INCONCLUSIVE"
    assert "blocked by replicates_differ (process 1 timed cuda 2" in reason
    assert "slower than the median of the processes" in reason


@pytest.mark.parametrize(
    ("factor", "severity"), [(1.09, None), (1.12, WARNING), (1.48, WARNING), (1.55, BLOCKING), (0.6, None)]
)
def test_a_slower_replicate_warns_from_10_percent_and_blocks_from_50(
    lab: Lab, factor: float, severity: str | None
) -> None:
    """The bounds are 10 % and 50 % slower than the median of the processes; a faster one is in nobody's way."""
    found = checks_of(lab, **slow(factor))["replicates_differ"]
    assert (found.severity if found.fired else None) == severity
    assert found.observed == pytest.approx(max(factor - 1, 0), abs=0.02)


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (
            {"alter": ({"backend": "again:cuda"}, {"value_ns": 31_000})},
            "blocked by aa_control (the same twice: ratio 1.0",
        ),
        ({"drop": {"backend": "again:cuda"}}, "blocked by aa_control (no A/A control was timed"),
        (
            {"alter": ({**SHAPE, "backend": "sdpa:varlen", "seed": 1}, {"mae": 0.5})},
            f"blocked by packed_variant_wrong (varlen on {NAMED}: MAE 0.5 > 0.001)",
        ),
    ],
)
def test_a_blocking_check_makes_the_verdict_inconclusive(lab: Lab, check: dict[str, object], expected: str) -> None:
    """ACCEPT becomes INCONCLUSIVE, with the check's reason."""
    found, reason = verdict(lab, **check)
    assert (found, expected in reason) == ("INCONCLUSIVE", True), reason


def test_a_slow_kernel_is_not_rejected_by_times_that_say_nothing(lab: Lab) -> None:
    """REJECT for being slow becomes INCONCLUSIVE, too."""
    assert verdict(lab, speedup=1.0)[0] == "REJECT"
    assert verdict(lab, speedup=1.0, drop={"backend": "again:cuda"})[0] == "INCONCLUSIVE"


def test_wrong_results_reject_whatever_blocks(lab: Lab) -> None:
    """REJECT for wrong results stays REJECT beside a blocking check."""
    wrong = {"alter": ({**SHAPE, "backend": "cuda", "seed": 1}, {"mae": 1.0}), "drop": {"backend": "again:cuda"}}
    assert verdict(lab, **wrong)[0] == "REJECT"


def test_a_wrong_variant_is_named_with_its_shape_and_figures(lab: Lab) -> None:
    """A wrong variant names every shape it is wrong on, the first three in words."""
    found = checks_of(lab, alter=({"backend": "sdpa:varlen", "seed": 0}, {"oracle_error": 0.5}))["packed_variant_wrong"]
    assert found.message.startswith(f"varlen on {NAMED}: oracle error 0.5 > 2 x 0.0019 of packed SDPA; varlen on N=256")
    assert found.message.endswith("; and 1 more")
    assert found.observed == 4


def test_a_wrong_variant_blocks_on_a_cpu_too(lab: Lab) -> None:
    """Results are no times: a variant that is wrong on a CPU is wrong."""
    alter = ({"backend": "sdpa:varlen", "seed": 0}, {"fault": "NaN beyond seq_lens"})
    assert fired(lab, device="cpu", alter=alter) == {"packed_variant_wrong": BLOCKING}


def test_a_variant_that_refuses_says_on_which_shape_and_why(lab: Lab) -> None:
    """A refusal of the candidate itself is none of a variant."""
    left_out = tuple(LeftOut(name=name, shape=NAMED, reason="v: got Dv = 64") for name in ("sdpa:varlen", "cuda"))
    check = {"drop": {**SHAPE, "backend": "sdpa:varlen"}, "facts": {"left_out": left_out}}
    assert checks_of(lab, **check)["packed_variant_refused"].message == f"varlen on {NAMED}: v: got Dv = 64"


def test_a_variant_that_refuses_many_shapes_is_one_clause(lab: Lab) -> None:
    """Shapes that are refused for one reason are counted."""
    every = [f"N=256 h=4 D=64 Dv={Dv} n={n}" for Dv in (64, 128) for n in (8, 16)]
    for shapes, words in ((every, "all 4 shapes"), (every[:3], f"{NAMED} and 2 more shapes")):
        left_out = tuple(LeftOut(name="sdpa:blocks", shape=shape, reason="n is odd") for shape in shapes)
        found = checks_of(lab, facts={"left_out": left_out})["packed_variant_refused"]
        assert (found.message, found.observed) == (f"blocks on {words}: n is odd", len(shapes))


def test_where_the_kernel_refuses_no_variant_is_missed(lab: Lab) -> None:
    """Nothing runs beside a kernel that does not take a shape."""
    refuses = ({**SHAPE, "backend": "cuda", "seed": 0}, {"mae": None, "fault": "refused: h = 4"})
    run = lab.run([], [lab.check("cuda", alter=refuses, drop={**SHAPE, "backend": "sdpa:varlen"})])
    assert not [check for check in run.checks if check.name == "rival_missing" and check.fired]
    assert run.accepts[0].verdict == "REJECT"


def test_the_controls_of_cells_and_checks_hold_together(lab: Lab) -> None:
    """A run of two cells and two checks has four controls, each at 1 - 0.05 / 4."""
    run = lab.run([lab.cell("sdpa", 128), lab.cell("sdpa", 2048)], [lab.check("cuda"), lab.check("sdpa")])
    assert set(run.controls) == {"sdpa/S128", "sdpa/S2048", "check_cuda", "check_sdpa"}
    assert {control.controls for control in run.controls.values()} == {4}
    assert {round(control.confidence, 6) for control in run.controls.values()} == {0.9875}


def test_one_process_has_no_control_and_none_is_missed(lab: Lab) -> None:
    """One process gives no interval: the verdict is then NOT MEASURED for too few replicates."""
    assert not checks_of(lab, processes=1)["aa_control"].fired
    assert verdict(lab, processes=1)[0] == "NOT MEASURED"
