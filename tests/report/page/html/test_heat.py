"""The heat map: each shape in its place with its speedup, and what is wrong or slow told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.report.page.html.heat import heat_map
from nsa.report.page.tables import significant

if TYPE_CHECKING:
    from nsa.report.page.html.heat import Square
    from nsa.report.verdict.gates import Accept
    from tests.report.conftest import Lab

WRONG = {"value_dim": 64, "sel_count": 8}


def accepted(lab: Lab, **check: object) -> Accept:
    (found,) = (each for each in lab.run([], [lab.check("cuda", **check)]).accepts if each.backend == "cuda")
    return found


def squares(found: Accept) -> list[Square]:
    return [square for _, row in heat_map(found).rows for square in row if square is not None]


def test_each_shape_has_its_square_with_its_speedup(lab: Lab) -> None:
    """The squares are the shapes of the check, each with the speedup that its table shows."""
    found = accepted(lab)
    made = heat_map(found)
    assert made.columns == (("64", "64", "8"), ("64", "64", "16"), ("64", "128", "8"), ("64", "128", "16"))
    assert [label for label, _ in made.rows] == ["N=256 h=4"]
    assert [each.text for each in squares(found)] == [significant(s.figures.speedup.value) for s in found.shapes]
    assert {each.tone for each in squares(found)} <= {"fast0", "fast1"}


def test_wrong_and_slow_shapes_are_told_apart(lab: Lab) -> None:
    """A wrong shape shows no speed, one that is too slow shows its own."""
    wrong = accepted(lab, alter=({**WRONG, "backend": "cuda", "seed": 0}, {"mae": 0.5}))
    assert [each.tone for each in squares(wrong)].count("wrong") == 1
    assert next(each for each in squares(wrong) if each.tone == "wrong").text == "wrong"
    slow = squares(accepted(lab, speedup=1.1))
    assert {each.tone for each in slow} == {"reject"}
    assert all(each.text.startswith("1.1") for each in slow)


def test_the_slowest_shapes_are_named(lab: Lab) -> None:
    """Three shapes are named with their intervals, the slowest first."""
    worst = heat_map(accepted(lab)).worst
    assert worst.startswith("Slowest: N=256") and worst.count("×") == 3


def test_a_check_that_was_not_timed_has_no_map(lab: Lab) -> None:
    """On a CPU there are no speedups, and no map."""
    assert heat_map(accepted(lab, device="cpu")) is None
