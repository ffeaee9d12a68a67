"""The automatic checks on the corner cases of a kernel check: that they were made, and which a kernel did not take."""

from __future__ import annotations

from collections.abc import Sequence

from nsa.records.facts import CheckFacts
from nsa.report.analysis.corners import NOT_RUN, NOT_TAKEN, Corner, corners
from nsa.report.analysis.kernel import Tolerance
from nsa.report.analysis.read import Record
from nsa.report.verdict.checks import Check
from nsa.report.verdict.tried import corners_missing
from nsa.report.verdict.words import WARNING


def corner_checks(record: Record[CheckFacts], tolerance: Tolerance) -> list[Check]:
    """The checks of one record that is ok."""
    found = corners(record, tolerance)
    return [corners_missing(record), corner_refused(record.name, found), corner_skipped(record.name, found)]


def corner_refused(name: str, found: Sequence[Corner]) -> Check:
    """Cases that the contract has (docs/contracts.md#the-selection-contract) and the kernel refuses, as it may."""
    refused = _with_reasons([case for case in found if case.status == NOT_TAKEN])
    message = "; ".join(refused) or "the kernel takes every corner case"
    count = float(sum(case.status == NOT_TAKEN for case in found))
    return Check("corner_refused", WARNING, name, count, 0.0, message, bool(refused))


def corner_skipped(name: str, found: Sequence[Corner]) -> Check:
    """Cases that this machine could not run."""
    skipped = _with_reasons([case for case in found if case.status == NOT_RUN])
    message = "; ".join(skipped) or "every corner case was run"
    count = float(sum(case.status == NOT_RUN for case in found))
    return Check("corner_skipped", WARNING, name, count, 0.0, message, bool(skipped))


def _with_reasons(found: Sequence[Corner]) -> list[str]:
    """One clause a reason, with the cases that have it."""
    cases: dict[str, list[str]] = {}
    for each in found:
        cases.setdefault(each.reason, []).append(each.case)
    return [f"{', '.join(names)}: {reason}" for reason, names in cases.items()]
