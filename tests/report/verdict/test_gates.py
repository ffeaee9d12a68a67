"""Every state of the accept gate is reachable, and reached for its reason only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import OLD

from nsa.config import GateSettings
from nsa.records.tried import PACKED_RIVALS
from nsa.report.analysis.read import read_check
from nsa.report.verdict.gates import accept

if TYPE_CHECKING:
    from nsa.report.verdict.gates import Accept
    from tests.report.conftest import Lab

GATES = GateSettings()


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


MOVED = 256 * 16 * 64 * (64 + 128) * 2  # bytes of K and V that the lab's largest shape selects
FLOOR_OF_30_US = MOVED / 30e-6  # the rate at which they take as long as the lab's kernel


def rates(copied: float, read: float) -> dict[str, tuple[float, ...]]:
    """The facts of three processes that measured these bandwidths."""
    return {"bandwidth_bytes_per_s": (copied,) * 3, "read_bandwidth_bytes_per_s": (read,) * 3}


@pytest.mark.parametrize("larger", [(1.0, 0.9), (0.9, 1.0)], ids=["the copy", "reading alone"])
@pytest.mark.parametrize(("share", "expected"), [(1.0, "ACCEPT"), (0.97, "ACCEPT"), (0.93, "REJECT"), (0.7, "REJECT")])
def test_a_kernel_that_is_faster_than_its_bytes_is_rejected(
    lab: Lab, share: float, expected: str, larger: tuple[float, float]
) -> None:
    """One as fast as memory moves its K and V at the larger rate is not, whichever the rate is; results count first."""
    copied, read = (FLOOR_OF_30_US * share * one for one in larger)
    found = judged(lab, facts=rates(copied, read))
    assert found.verdict == expected
    largest = next(shape for shape in found.shapes if str(shape.figures.shape) == "N=256 h=4 D=64 Dv=128 n=16")
    assert largest.figures.floor_us == pytest.approx(30 / share, rel=1e-6)
    assert (largest.figures.too_fast, largest.correct) == (expected == "REJECT", expected != "REJECT")
    if expected == "REJECT":
        assert f"{largest.figures.shape}: faster than it can read: 30 µs, and this memory needs" in found.reason
        assert str(largest.figures.shape) in found.wrong_shapes
        wrong = judged(lab, facts=rates(copied, read), alter=({"backend": "cuda", "seed": 1}, {"mae": 0.5}))
        assert "MAE 0.5 > 0.001" in wrong.reason and "faster than it can read" not in wrong.reason


def test_without_a_rate_no_kernel_is_too_fast(lab: Lab) -> None:
    """There is no floor, as on a CPU."""
    found = judged(lab, facts={"bandwidth_bytes_per_s": (), "read_bandwidth_bytes_per_s": ()}, speedup=1000)
    assert found.verdict == "ACCEPT" and {shape.figures.floor_us for shape in found.shapes} == {None}


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
        lab, alter=({"mae": 1e-5, "backend": "sdpa:gather"}, {"fault": "NaN"}), drop={"backend": PACKED_RIVALS[1:]}
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
    assert wrong.verdict == "NOT MEASURED" and wrong.reason == (
        "Its speed is not measured, as there is no CUDA device. Its results are WRONG on the CPU, so that no speed "
        "would make it good enough: 3 of 4 shapes are correct, and 1 wrong."
    )


def test_no_record_is_not_measured(lab: Lab) -> None:
    """A candidate without a kernel check is named."""
    assert accept("fa2", None, (), lab.config.check, GATES).reason == "fa2 has no kernel check record."
