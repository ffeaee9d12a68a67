"""The control of a record: one time for each process, which the machine alone moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa.records.facts import TimedFacts
from nsa.report.analysis.control import controlled
from nsa.report.analysis.core import read_core
from nsa.report.analysis.read import Record, read_cell, read_check

if TYPE_CHECKING:
    from synthetic import Where

    from tests.report.conftest import Lab

TRAIN = "control:train"
SLOW = {"value_ns": 99_000}


def record(lab: Lab, kind: str, where: Where) -> Record[TimedFacts]:
    """A record of one kind whose train is slow on some rows."""
    if kind == "core":
        return read_core(lab.core(alter=({"backend": TRAIN, **where}, SLOW)), lab.stamps)
    if kind == "check":
        return read_check(lab.check(alter=({"backend": TRAIN, **where}, SLOW)), lab.stamps)
    said = {"contract": "core"} if kind == "cell through a core" else None
    return read_cell(lab.cell(alter=({"arm": TRAIN, **where}, SLOW), facts=said), lab.stamps)


KINDS = ("cell", "cell through a core", "check", "core")


@pytest.mark.parametrize("kind", KINDS)
def test_a_block_in_which_the_train_alone_is_slow_is_not_taken_for_the_machine(lab: Lab, kind: str) -> None:
    """The control is that of the quietest block; what is slow in every block of a process is the machine's."""
    usual = controlled(record(lab, kind, {"process": 99}))[TRAIN].tolist()
    assert controlled(record(lab, kind, {"block": 1}))[TRAIN].tolist() == usual
    moved = controlled(record(lab, kind, {"process": 1}))[TRAIN].tolist()
    assert moved[1] == 99_000 and moved[:1] == usual[:1]


def test_a_shape_on_which_the_train_is_slow_is_not_taken_for_the_machine(lab: Lab) -> None:
    """Nor is a shape of a check: its quietest shape counts."""
    usual = controlled(record(lab, "core", {"process": 99}))[TRAIN].tolist()
    assert controlled(record(lab, "core", {"batch": 32}))[TRAIN].tolist() == usual
