"""What corner cases do to the verdict on a kernel, and the checks on them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa.report.page.tables import corner_line
from nsa.report.verdict.gates import Accept

if TYPE_CHECKING:
    from tests.report.conftest import Lab

WRONG = ({"case": "h = 16"}, {"oracle_error": 0.5})
REFUSED = ({"case": "h = 16"}, {"oracle_error": None, "mae": None, "fault": "refused: q: got h = 16"})
SKIPPED = ({"case": "h = 1"}, {"oracle_error": None, "mae": None, "fault": "skipped: no memory"})


def accept(lab: Lab, **check: object) -> Accept:
    """What the gate says of a kernel."""
    (found, *_) = lab.run([], [lab.check("cuda", **check)]).accepts
    return found


def fired(lab: Lab, **check: object) -> dict[str, tuple[str, str]]:
    """The checks that fired, with severity and message."""
    run = lab.run([], [lab.check("cuda", **check)])
    return {found.name: (found.severity, found.message) for found in run.checks if found.fired}


def test_a_wrong_case_rejects_a_kernel_that_is_right_and_fast_on_the_grid(lab: Lab) -> None:
    """The reason names the case with its figures, and so does what the exit status is made of."""
    assert accept(lab).verdict == "ACCEPT"
    found = accept(lab, alter=WRONG)
    assert found.verdict == "REJECT"
    assert found.reason.startswith("1 of 41 corner cases fail: h = 16: oracle error 0.5 > ")
    assert found.wrong_shapes == ["corner case h = 16"]


def test_a_wrong_case_rejects_whatever_blocks_the_times(lab: Lab) -> None:
    """Wrong results need no times."""
    blocked = {"facts": {"left_out": ()}, "drop": {"backend": "again:cuda"}}
    assert accept(lab, **blocked).verdict == "INCONCLUSIVE"
    assert accept(lab, **blocked, alter=WRONG).verdict == "REJECT"


def test_a_wrong_case_is_said_on_a_cpu(lab: Lab) -> None:
    """Nothing is decided there, and the exit status is that of wrong results."""
    found = accept(lab, device="cpu", alter=WRONG)
    assert found.verdict == "NOT MEASURED" and "1 of 41 corner cases fail: h = 16" in found.reason
    assert found.wrong_shapes == ["corner case h = 16"]


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"alter": REFUSED}, {"corner_refused": ("warning", "h = 16: q: got h = 16")}),
        ({"alter": SKIPPED}, {"corner_skipped": ("warning", "h = 1: no memory")}),
        ({"alter": WRONG}, {}),
    ],
)
def test_what_is_refused_or_skipped_warns(
    lab: Lab, check: dict[str, object], expected: dict[str, tuple[str, str]]
) -> None:
    """And does not reject."""
    assert fired(lab, **check) == expected
    if expected:
        assert accept(lab, **check).verdict == "ACCEPT"


def test_a_record_without_corner_cases_decides_nothing(lab: Lab) -> None:
    """It does not say that the kernel is right beyond the grid."""
    said = "no corner case was tried; delete check_cuda.parquet and rerun"
    assert fired(lab, drop={"process": 0, "seed": 123}) == {"corners_missing": ("blocking", said)}
    assert accept(lab, drop={"process": 0, "seed": 123}).verdict == "INCONCLUSIVE"


def test_the_report_has_a_line_on_the_cases(lab: Lab) -> None:
    """How many are right, with the seed that draws them again, and each other one by name."""
    assert corner_line(accept(lab)) == "Corner cases, drawn with seed 123: 41 of 41 right."
    assert corner_line(accept(lab, alter=REFUSED)) == (
        "Corner cases, drawn with seed 123: 40 of 41 right; refused: h = 16."
    )
