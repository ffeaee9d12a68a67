"""What a corner case says of a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from nsa.config import GateSettings
from nsa.records.tried import check_corners
from nsa.report.analysis.corners import FLOOR, allowed_error, corner, corners
from nsa.report.analysis.kernel import Tolerance
from nsa.report.analysis.read import read_check

if TYPE_CHECKING:
    from tests.report.conftest import Lab

ALLOWED = Tolerance.of(GateSettings().accept)
ROW = {
    "rows": 12,
    "heads_per_group": 3,
    "head_dim": 64,
    "value_dim": 64,
    "sel_count": 8,
    "dtype": "bfloat16",
    "seed": 7,
    "oracle_error": 3e-3,
    "sdpa_oracle_error": 3e-3,
    "fault": None,
}


def said(*changes: dict[str, object]) -> tuple[str, str]:
    """The status and the reason of a case of one call for each of some changed rows."""
    found = corner("h = 3", [{**ROW, **each} for each in changes], ALLOWED)
    return found.status, found.reason


@pytest.mark.parametrize(
    ("row", "status", "reason"),
    [
        ({}, "right", ""),
        ({"oracle_error": 5.8e-3, "sdpa_oracle_error": 0.0}, "right", ""),  # less than the floor
        (
            {"oracle_error": 7e-3},
            "wrong",
            "oracle error 0.007 > 0.006 (N=12 h=3 D=64 Dv=64 n=8)",
        ),
        ({"oracle_error": math.nan}, "wrong", "oracle error nan > 0.006 (N=12 h=3 D=64 Dv=64 n=8)"),
        ({"oracle_error": math.nan, "fault": "the output is not finite"}, "wrong", "fault: the output is not finite"),
        ({"fault": "the input k was changed"}, "wrong", "fault: the input k was changed"),
        ({"oracle_error": None, "fault": "refused: h = 3"}, "refused", "h = 3"),
        ({"oracle_error": None, "fault": "skipped: no memory"}, "skipped", "no memory"),
        ({"oracle_error": None, "fault": "failed: cuda: no instance"}, "wrong", "fault: failed: cuda: no instance"),
    ],
)
def test_a_case_has_a_status_and_a_reason(row: dict[str, object], status: str, reason: str) -> None:
    """Right, wrong with its figures, refused or skipped."""
    assert said(row) == (status, reason)


def test_one_wrong_call_makes_a_case_wrong() -> None:
    """Whichever it is; each is held against packed SDPA's error on the same call."""
    status, reason = said({}, {"oracle_error": 1e-2, "sdpa_oracle_error": 2e-3}, {"oracle_error": 1e-2})
    assert status == "wrong" and reason.startswith("oracle error 0.01 > 0.0059")


def test_a_baseline_that_is_no_number_allows_the_floor() -> None:
    """It does not allow everything, nor nothing."""
    assert (
        allowed_error("float16", math.nan, ALLOWED) == allowed_error("float16", math.inf, ALLOWED) == FLOOR["float16"]
    )
    assert allowed_error("float16", 1e-2, ALLOWED) == 2e-2


def test_the_rows_of_corner_cases_are_none_of_the_grid(lab: Lab) -> None:
    """A record's rows are the grid's alone, which all have one block size and context."""
    record = read_check(lab.check("cuda"))
    assert record.ok and record.rows["case"].isna().all() and record.corners["case"].notna().all()
    assert {found.case: found.status for found in corners(record, ALLOWED)} == dict.fromkeys(
        check_corners("bfloat16"), "right"
    )
