"""The figures of a core check: times, rivals, floors and what is wrong, from records whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pytest
from synthetic import CORES, OLD, Where

from nsa.report.analysis.core import CoreFigures, core_corners, core_figures, off_core_grid, read_core

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def figures(lab: Lab, **record: object) -> list[CoreFigures]:
    """The figures of one record."""
    read = read_core(lab.core(**record), lab.stamps)  # type: ignore[arg-type]
    assert read.ok, read.reason
    return core_figures(read, CORES, 2.0, 0.95)


def test_the_fastest_correct_dense_attention_is_what_a_core_is_compared_with(lab: Lab) -> None:
    """Times, the winner, the speedup over it and the floor are those of the record."""
    found = figures(lab, speedup=3.0)
    assert [str(each.shape) for each in found] == [
        f"B={B} S={S} D=128 Dv=128" for B in CORES.batch for S in CORES.contexts
    ]
    for each in found:
        assert each.faults == () and each.too_fast is None
        assert each.winner is not None and each.winner.name == "dense:cudnn"
        assert each.time_us is not None and each.time_us.value == pytest.approx(20, rel=0.01)
        assert each.speedup is not None and each.speedup.value == pytest.approx(3, rel=0.01)
        assert each.floor_us == pytest.approx(1.0) and each.rate == pytest.approx(1 / 20, rel=0.01)
        assert each.composed is not None and each.composed.time_us is not None
        assert [rival.name for rival in each.dense] == ["dense:cudnn", "dense:flash"]


@pytest.mark.parametrize("change", [{"fault": "the output is (1,)"}, {"error": 0.3}], ids=["fault", "error"])
def test_wrong_dense_attention_does_not_compete(change: Where, lab: Lab) -> None:
    """A kernel whose outputs are wrong has a time that does not count, and the next one wins."""
    found = figures(lab, alter=({"backend": "dense:cudnn", "case": "timed"}, change))
    assert {each.winner.name for each in found if each.winner} == {"dense:flash"}
    assert all(rival.fault for each in found for rival in each.dense if rival.name == "dense:cudnn")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fault": "two replays on the same inputs differ"}, "two replays on the same inputs differ"),
        ({"error": 9e-3}, "error 0.009 > 0.008, that of the composed core is 0.004"),
        ({"error": float("nan")}, "error nan > 0.008"),
        ({"composed_error": float("nan")}, "error 0.004 > 0"),
    ],
)
def test_a_wrong_core_is_named_with_its_figures(change: Where, said: str, lab: Lab) -> None:
    """A fault, an error beyond twice the composed core's, and an error that is none are wrong on that shape alone."""
    where = {"backend": "fused", "case": "timed", "batch": 1, "context": 8192, "process": 1}
    found = figures(lab, alter=(where, change))
    first = found[0].faults
    assert first is not None and len(first) == 1 and said in first[0] and "process 1, timed inputs" in first[0]
    assert all(each.faults == () for each in found[1:])


def test_a_time_below_the_bytes_is_no_time(lab: Lab) -> None:
    """A core that takes less than 0.95 of its bytes over the fastest measured rate has not read them."""
    assert figures(lab, speedup=60 / 0.96)[0].too_fast is None
    assert "this memory needs 0.95 for its bytes alone" in str(figures(lab, speedup=60 / 0.90)[0].too_fast)


def test_few_rows_may_round_to_more_than_the_composed_core_by_luck(lab: Lab) -> None:
    """On unseen inputs and corner cases an error of half a last place or so is right, whatever the composed core's."""
    lucky = {"error": 5e-3, "composed_error": 1e-4}
    assert figures(lab, alter=({"backend": "fused", "case": "unseen"}, lucky))[0].faults == ()
    assert figures(lab, alter=({"backend": "fused", "case": "timed"}, lucky))[0].faults != ()
    read = read_core(lab.core(alter=({"case": "h = 1"}, lucky)))
    assert {corner.fault for corner in core_corners(read, 2.0)} == {None}


def test_corner_cases_are_right_wrong_or_refused(lab: Lab) -> None:
    """Each case says which of these it is."""
    refused = core_corners(read_core(lab.core(alter=({"case": "h = 1"}, {"fault": "refused: q: got h = 1"}))), 2.0)
    assert [corner.case for corner in refused if corner.refused] == ["h = 1"] and len(refused) == 76
    wrong = core_corners(read_core(lab.core(alter=({"case": "h = 1"}, {"error": 0.5}))), 2.0)
    assert wrong[0].fault is not None and not wrong[0].refused and wrong[1].fault is None


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"said": {"backend": "cuda"}}, "backend is 'cuda', expected 'fused'"),
        ({"said": {"stage": "check"}}, "stage is 'check', expected 'core'"),
        ({"alter": ({"backend": "fused"}, {"value_ns": -1})}, "expected a positive time"),
        ({"drop": {"process": 2}}, "expected the replicates"),
        ({"alter": ({"process": 1, "case": "timed"}, {"dtype": "float16"})}, "dtype is 'float16' in process 1"),
        ({"drop": {"backend": "fused", "case": "timed"}}, "fused was timed in process 0 and not judged"),
        ({"facts": {"bandwidth_bytes_per_s": (0.0, 1.0, 1.0)}}, "bandwidth_bytes_per_s holds 0"),
    ],
)
def test_a_broken_record_is_invalid(record: Mapping[str, object], reason: str, lab: Lab) -> None:
    """A record of something else, without judgement of what it timed, or with impossible figures is not used."""
    read = read_core(lab.core(**record), lab.stamps)  # type: ignore[arg-type]
    assert read.status == "invalid" and reason in str(read.reason)


def test_a_record_of_other_sources_is_stale(lab: Lab) -> None:
    """Figures of code that is no longer there are not shown."""
    assert read_core(lab.core(said={"stamp": OLD}), lab.stamps).status == "stale"


def test_another_grid_is_told(lab: Lab) -> None:
    """Shapes that the settings do not ask for are named."""
    read = read_core(lab.core(alter=({"batch": 32}, {"batch": 16})), lab.stamps)
    assert off_core_grid(read, CORES) == "B=16 S=65536 D=128 Dv=128 is no shape of the grid that the settings ask for"
    assert off_core_grid(read_core(lab.core(), lab.stamps), CORES) is None
