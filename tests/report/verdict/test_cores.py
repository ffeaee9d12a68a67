"""The verdict on decode cores, and the automatic checks of their records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from synthetic import CONFIG, CORES, Where

from nsa.config import Config
from nsa.report.analysis.core import read_core
from nsa.report.verdict.checks import Check
from nsa.report.verdict.cores import CoreAccept, accept_core
from nsa.report.verdict.exit import read

if TYPE_CHECKING:
    from tests.report.conftest import Lab

WITH_CORE = CONFIG.model_copy(update={"candidates": ("cuda", "fused")})


def decided(lab: Lab, **record: object) -> CoreAccept:
    """The verdict on one record by itself."""
    read = read_core(lab.core(**record), lab.stamps)  # type: ignore[arg-type]
    return accept_core("fused", read, (), CORES, CONFIG.gates)


def test_a_core_that_is_right_and_faster_than_dense_attention_is_accepted(lab: Lab) -> None:
    """ACCEPT names the smallest bound; exactly the lower bound decides."""
    found = decided(lab, speedup=2.0)
    assert found.verdict == "ACCEPT" and found.wrong_shapes == []
    assert (
        "All 4 shapes and 76 corner cases are correct, and at least 1.9" in found.reason or "at least 2" in found.reason
    )
    assert {shape.verdict for shape in found.shapes} == {"ACCEPT"}


@pytest.mark.parametrize(
    ("record", "said", "wrong"),
    [
        ({"speedup": 0.9}, "over dense cudnn, lower bound < 1", []),
        ({"alter": ({"backend": "fused", "case": "unseen", "batch": 1}, {"fault": "a fault"})}, "a fault", 2),
        ({"alter": ({"case": "no token"}, {"error": 1.0})}, "corner case no token: error 1 >", 1),
        ({"speedup": 100.0}, "faster than it can read: 0.6 µs", 4),
        ({"alter": ({"backend": "fused", "case": "timed"}, {"fault": "refused: q: float32"})}, "refused: q", 4),
    ],
)
def test_a_core_that_is_wrong_or_slow_is_rejected(
    record: Mapping[str, object], said: str, wrong: object, lab: Lab
) -> None:
    """REJECT has the first failing shapes with their figures, and knows the wrong ones from the slow ones."""
    found = decided(lab, **record)
    assert found.verdict == "REJECT" and said in found.reason
    assert found.wrong_shapes == [] if wrong == [] else len(found.wrong_shapes) == wrong


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"status": "unavailable"}, "fused is unavailable (fused is not here)"),
        ({"status": "failed"}, "fused is failed"),
        ({"device": "cpu"}, "on the CPU 1 of 1 shapes and 76 of 76 corner cases are correct"),
        ({"processes": 1}, "too few replicates: one process"),
        (
            {"drop": {"backend": "dense:cudnn"}, "alter": ({"backend": "dense:flash"}, {"error": 1.0})},
            "no correct dense",
        ),
        ({"drop": {"batch": 32}}, "2 of 4 shapes are not decided: B=32 S=8192 D=128 Dv=128: no result"),
    ],
)
def test_what_was_not_measured_is_not_decided(record: Mapping[str, object], said: str, lab: Lab) -> None:
    """No record, no GPU, one process, no rival or a missing shape leave the verdict open, with the reason."""
    found = decided(lab, **record)
    assert found.verdict == "NOT MEASURED" and said in found.reason


def test_without_a_record_nothing_is_decided() -> None:
    """A run without the stage says so."""
    found = accept_core("fused", None, (), CORES, CONFIG.gates)
    assert (found.verdict, found.reason) == ("NOT MEASURED", "fused has no core check record.")


def test_a_wrong_core_on_a_cpu_is_rejected(lab: Lab) -> None:
    """What is wrong is wrong without a GPU, too."""
    found = decided(lab, device="cpu", alter=({"backend": "fused", "case": "timed"}, {"error": 0.1}))
    assert found.verdict == "REJECT" and len(found.wrong_shapes) == 1


def of_run(lab: Lab, **record: object) -> tuple[CoreAccept, dict[str, Check]]:
    """The verdict of a whole run, and the checks on the core's record by name."""
    path = lab.core(**record)  # type: ignore[arg-type]
    run = replace(lab, config=WITH_CORE).run([lab.cell()], [lab.check("cuda")], [path])
    return run.core_accepts[0], {check.name: check for check in run.checks if check.cell == "core/fused"}


def test_a_sound_record_blocks_nothing(lab: Lab) -> None:
    """Every automatic check is made; what is not installed is a warning that names it."""
    found, checks = of_run(lab)
    assert found.verdict == "ACCEPT"
    assert [name for name, check in checks.items() if check.blocks] == []
    assert checks["dense_left_out"].fired and "fa3 on every shape: not installed" in checks["dense_left_out"].message
    assert {
        "aa_control",
        "fact_missing",
        "control_moved",
        "composed_wrong",
        "corner_refused",
        "other_processes",
    } <= set(checks)


SLOW_AGAIN: tuple[Where, Where] = ({"backend": "again:fused"}, {"value_ns": 36_000})


@pytest.mark.parametrize(
    ("record", "check"),
    [
        ({"alter": SLOW_AGAIN}, "aa_control"),
        ({"drop": {"backend": "again:fused"}}, "aa_control"),
        ({"alter": ({"backend": "composed"}, {"error": 0.5, "composed_error": 0.5})}, "composed_wrong"),
        ({"alter": ({"case": "timed", "rows": 32}, {"clear": 20})}, "blocks_close"),
        ({"facts": {"read_bandwidth_bytes_per_s": ()}}, "fact_missing"),
        ({"alter": ({"backend": "control:train", "process": 2}, {"value_ns": 120_000})}, "control_moved"),
    ],
)
def test_a_blocking_check_leaves_a_right_core_undecided(record: Mapping[str, object], check: str, lab: Lab) -> None:
    """Times that mean nothing decide nothing."""
    found, checks = of_run(lab, **record)
    assert checks[check].blocks and found.verdict == "INCONCLUSIVE" and check in found.reason


def test_a_record_of_another_grid_or_model_is_invalid(lab: Lab) -> None:
    """What another model of GPU or other settings measured is not used."""
    other, _ = of_run(lab, alter=({"batch": 32}, {"batch": 16}))
    assert other.verdict == "NOT MEASURED" and "no shape of the grid" in other.reason


def exits(lab: Lab, config: Config, **record: object) -> tuple[int, tuple[str, ...]]:
    """What `nsa check` says of a run with this record."""
    cores = [lab.core(**record)] if record else []  # type: ignore[arg-type]
    replace(lab, config=config).render([lab.cell(S=S) for S in config.contexts], [lab.check("cuda")], cores=cores)
    said = read(lab.layout.gate)
    return said.status, said.lines


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"speedup": 0.5}, "accept the core of fused: REJECT."),
        ({"status": "failed"}, "accept the core of fused: NOT MEASURED. fused is failed"),
        ({"alter": SLOW_AGAIN}, "accept the core of fused: INCONCLUSIVE."),
    ],
)
def test_the_exit_status_follows(record: Mapping[str, object], said: str, lab: Lab) -> None:
    """`nsa check` ends with 1 for a core as for a kernel."""
    status, lines = exits(lab, WITH_CORE, **record)
    assert status == 1 and any(line.startswith(said) for line in lines)


def test_an_accepted_or_unavailable_core_is_no_fault(lab: Lab) -> None:
    """A core that is accepted, or that this machine cannot run, changes no exit status."""
    without = exits(lab, CONFIG.model_copy(update={"candidates": ("cuda",)}))
    assert exits(lab, WITH_CORE, speedup=2.0)[0] == without[0] == 0
    assert exits(lab, WITH_CORE, status="unavailable")[0] == 0


def test_the_report_shows_the_core_and_the_absent_kernel_check(lab: Lab) -> None:
    """One verdict line, one table, and why there is no kernel check: no empty grid."""
    exits(lab, WITH_CORE, speedup=2.0)
    text = lab.layout.report.read_text()
    assert (
        "**Accept the core of fused** (is this decode core right, and no slower than dense attention?): **ACCEPT.**"
        in text
    )
    assert "No kernel check of fused: without a selection kernel, only with a decode core (below)." in text
    assert "### fused: ACCEPT" in text and "| 32 | 65536 | 128 | 128 |" in text and "**Accept fused**" not in text
    assert "Corner cases, drawn with seed 99: 76 of 76 right." in text
