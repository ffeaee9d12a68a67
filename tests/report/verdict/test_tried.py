"""A record that lacks what a whole check tries decides nothing, and says in one line what it lacks and what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from synthetic import CONFIG

from nsa.records.facts import LeftOut
from nsa.records.tried import core_corners
from nsa.report.analysis.core import read_core
from nsa.report.analysis.read import read_check
from nsa.report.verdict.tried import corners_missing, rival_missing

if TYPE_CHECKING:
    from tests.report.conftest import Lab

WITH_CORE = CONFIG.model_copy(update={"candidates": ("cuda", "fused")})
ALL_BUT_ONE = tuple(case for case in core_corners() if case != "no token")
REFUSED = {"error": None, "mae": None, "oracle_error": None, "fault": "refused: q: float32"}
NOT_INSTALLED = "not installed (no module)"
PAGES = {"core": "core/fused.parquet", "check": "check_cuda.parquet"}


def decided(lab: Lab, kind: str, **record: object) -> tuple[str, str, dict[str, str]]:
    """The verdict of a run on a core or a kernel, its reason, and the messages of all that blocks in this run."""
    paths = [lab.core(**record)] if kind == "core" else [lab.check("cuda", **record)]  # type: ignore[arg-type]
    run = replace(lab, config=WITH_CORE).run([], *((paths, []) if kind == "check" else ([], paths)))
    found = run.core_accepts[0] if kind == "core" else run.accepts[0]
    return found.verdict, found.reason, {check.name: check.message for check in run.checks if check.blocks}


@pytest.mark.parametrize(
    ("kind", "drop", "said"),
    [
        ("core", ALL_BUT_ONE, "1 of 76 corner cases were tried, without h = 1, h = 3, h = 5 and 72 more"),
        ("core", "in float32", "75 of 76 corner cases were tried, without in float32"),
        ("core", tuple(core_corners()), "no corner case was tried"),
        ("check", ("in float32", "sink"), "39 of 41 corner cases were tried, without sink, in float32"),
    ],
)
def test_a_record_without_some_corner_cases_decides_nothing(kind: str, drop: object, said: str, lab: Lab) -> None:
    """What is left of the cases may be right, and those that are gone were not."""
    verdict, reason, blocking = decided(lab, kind, drop={"case": drop})
    said = f"{said}; delete {PAGES[kind]} and rerun"
    assert blocking == {"corners_missing": said}
    assert verdict == "INCONCLUSIVE" and f"blocked by corners_missing ({said})" in reason


@pytest.mark.parametrize("kind", ["core", "check"])
def test_corner_cases_are_missed_on_a_cpu_too(kind: str, lab: Lab) -> None:
    """Results are no times: `nsa check` fails there as it does on a GPU."""
    assert decided(lab, kind, device="cpu")[2] == {}
    assert set(decided(lab, kind, device="cpu", drop={"case": "in float16"})[2]) == {"corners_missing"}


def test_a_case_without_one_of_its_calls_is_missing(lab: Lab) -> None:
    """The call that is gone may be the wrong one."""
    core, check = read_core(lab.core()), read_check(lab.check("cuda"))
    last = core.rows.index[core.rows["case"] == "shorter, then longer"][-1]
    assert not corners_missing(core).fired and not corners_missing(check).fired
    assert corners_missing(replace(core, rows=core.rows.drop(last))).fired
    last = check.corners.index[check.corners["case"] == "two outputs held"][-1]
    assert corners_missing(replace(check, corners=check.corners.drop(last))).fired


def test_a_case_that_a_fault_ended_lacks_no_call(lab: Lab) -> None:
    """Where the first call of two is refused there is no second: the record says so, and a warning tells it."""
    check = read_check(lab.check("cuda", alter=({"case": "near the grid"}, REFUSED)))
    later = check.corners.index[check.corners["case"] == "near the grid"][1:]
    assert not corners_missing(replace(check, corners=check.corners.drop(later))).fired


def test_a_case_of_another_backend_is_none_of_the_record(lab: Lab) -> None:
    """Rows of another core say nothing of this one."""
    _, _, blocking = decided(lab, "core", alter=({"case": "no token"}, {"backend": "triton_core"}))
    assert "without no token" in blocking["corners_missing"]


@pytest.mark.parametrize(
    ("kind", "where", "said"),
    [
        ("core", {"backend": "dense:cudnn"}, "cudnn on all 4 shapes"),
        ("core", {"backend": "dense:cudnn", "batch": 1, "context": 8192}, "cudnn on B=1 S=8192 D=128 Dv=128"),
        ("check", {"backend": ("sdpa:varlen", "sdpa:blocks")}, "blocks on all 4 shapes; varlen on all 4 shapes"),
        ("check", {"backend": "sdpa:varlen", "sel_count": 8}, "varlen on N=256 h=4 D=64 Dv=64 n=8 and 1 more shapes"),
    ],
)
def test_a_rival_that_is_missing_without_a_word_leaves_the_verdict_open(
    kind: str, where: dict[str, object], said: str, lab: Lab
) -> None:
    """Everywhere or on one shape, in every process: the one to beat may be missing."""
    verdict, reason, blocking = decided(lab, kind, drop=where)
    said = f"{said}: neither run nor left out for a reason; delete {PAGES[kind]} and rerun"
    assert blocking == {"rival_missing": said}
    assert verdict == "INCONCLUSIVE" and f"blocked by rival_missing ({said})" in reason


@pytest.mark.parametrize(
    ("kind", "rival", "shapes", "warns"),
    [
        ("core", "dense:cudnn", ["every shape"], "dense_left_out"),
        ("check", "sdpa:varlen", [f"N=256 h=4 D=64 Dv={Dv} n={n}" for Dv in (64, 128) for n in (8, 16)], "refused"),
    ],
)
def test_a_rival_that_is_left_out_for_a_reason_is_told_as_before(
    kind: str, rival: str, shapes: list[str], warns: str, lab: Lab
) -> None:
    """Not installed, or refused on every shape: a warning, and the verdict is given."""
    read = read_core(lab.core()) if kind == "core" else read_check(lab.check("cuda"))
    left_out = (*read.facts.left_out, *(LeftOut(name=rival, shape=shape, reason=NOT_INSTALLED) for shape in shapes))
    verdict, _, blocking = decided(lab, kind, drop={"backend": rival}, facts={"left_out": left_out})
    assert (verdict, blocking) == ("ACCEPT", {})
    checks = lab.run([], *(([], [lab.core()]) if kind == "core" else ([lab.check("cuda")], []))).checks
    assert any(warns in check.name for check in checks)


def test_beside_a_core_that_is_not_timed_no_rival_is_missed(lab: Lab) -> None:
    """On a shape that a core refuses nothing runs."""
    read = read_core(lab.core(drop={"batch": 32}))
    assert not rival_missing(read).fired
