"""A report beside the accepted run: which changes it names, and which of them fail `nsa check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from accepted_runs import Files, accept, against, lines, measure, on, verdicts
from synthetic import ABOUT, ENVIRONMENT

from nsa.config import GateSettings, RegressionThresholds
from nsa.records.words import CONTROLS
from nsa.report.verdict.exit import read as said_of

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def text(lab: Lab) -> str:
    """The report."""
    return lab.layout.report.read_text()


def test_without_an_accepted_run_the_report_says_so(lab: Lab) -> None:
    """No accepted run is no fault, and no comparison either."""
    files = measure(lab)
    lab.render(*files)
    assert against(lab, files).status == "none"
    assert "There is no accepted run of NVIDIA Synthetic; `python -m nsa accept` keeps one." in text(lab)
    assert said_of(lab.layout.gate).status == 0


def test_a_slower_cell_and_kernel_are_named_and_fail_the_check(lab: Lab) -> None:
    """A step that lost 12 % and a kernel that lost 11 % are called slower, in the report and by `nsa check`."""
    accept(lab, measure(lab, day=22))
    files = measure(lab, speedup=1.8, parts={"fixed": 0.042})
    lab.render(*files)
    assert verdicts(against(lab, files)) == {
        ("sdpa", "S = 128"): "same",
        ("sdpa", "S = 2048"): "same",
        ("cuda", "S = 2048"): "slower",
        ("cuda", "geometric mean"): "slower",
        ("cuda", "worst shape"): "slower",
    }
    found = said_of(lab.layout.gate)
    said = "\n".join(found.lines)
    assert found.status == 1
    assert "regression: cuda decode, S = 2048: slower by +12.5 %" in said
    assert "regression: cuda kernel check, geometric mean of 4 shapes: slower by +11.1 %" in said
    assert "## Change since the accepted run" in text(lab)
    line = next(line for line in text(lab).splitlines() if line.startswith("| decode ms | cuda | S = 2048 |"))
    assert line.split(" | ")[3:5] == ["0.0961", "0.108"]
    assert line.endswith("] | **slower** |")
    assert "**cuda decode, S = 2048: slower by" in text(lab)


def shifted(rows: list[dict[str, object]], by: float, controls: bool) -> list[dict[str, object]]:
    """All times of a record, or all but the control's, longer."""
    return [
        row
        if row.get("value_ns") is None or (str(row.get("arm") or row["backend"]) in CONTROLS and not controls)
        else {**row, "value_ns": round(by * row["value_ns"])}  # type: ignore[operator]
        for row in rows
    ]


@pytest.mark.parametrize(("controls", "verdict", "status"), [(True, "same", 0), (False, "slower", 1)])
def test_a_machine_that_is_slower_is_no_slower_kernel(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, controls: bool, verdict: str, status: int
) -> None:
    """All times 8 % longer with the control are the machine; without it they are the code, and fail `nsa check`."""
    accept(lab, measure(lab, day=22))
    monkeypatch.setitem(type(lab).cell.__globals__, "altered", lambda rows, *_: shifted(rows, 1.08, controls))
    monkeypatch.setattr("nsa.report.verdict.isolation.DISTURBED", 1.0)  # what packed SDPA took alone is not shifted
    files = measure(lab)
    found = against(lab, files)
    assert {line.verdict for line in found.lines} == {verdict}
    moved = "+8.0 % (train) and +8.0 % (copy)" if controls else "+0.0 % (train) and +0.0 % (copy)"
    assert found.reason.endswith(f"Changes are relative to the control, which itself moved by {moved}.")
    lab.render(*files)
    assert said_of(lab.layout.gate).status == status
    assert f"which itself moved by {moved}" in text(lab)


def test_a_slowdown_within_the_margin_is_shown_and_passes(lab: Lab) -> None:
    """The margin is the user's: 3 % slower is shown, and fails only where the margin is 2 %."""
    accept(lab, measure(lab, day=22))
    files = measure(lab, parts={"fixed": 0.033})
    found = against(lab, files)
    assert verdicts(found)["cuda", "S = 2048"] == "slower"
    assert found.regressions == ()
    gates = GateSettings(regression=RegressionThresholds(margin=0.02))
    assert against(lab, files, lab.config.model_copy(update={"gates": gates})).regressions


def test_a_faster_kernel_is_called_so(lab: Lab) -> None:
    """An improvement is shown."""
    accept(lab, measure(lab, day=22))
    found = against(lab, measure(lab, speedup=2.5, parts={"sel": 0.03}))
    assert {verdicts(found)["cuda", where] for where in ("S = 2048", "geometric mean")} == {"faster"}
    assert found.regressions == ()


def test_the_accepted_records_themselves_are_the_same(lab: Lab) -> None:
    """Right after `nsa accept` every record is the accepted one, and has no ratio; one measured again has."""
    files = measure(lab)
    accept(lab, files)
    found = lines(against(lab, files))
    assert {line.reason for line in found.values()} == {"it is the accepted record"}
    assert found["cuda", "S = 2048"].ratio is None
    found = lines(against(lab, measure(lab, said=on(24))))
    assert found["cuda", "S = 2048"].ratio is not None
    assert found["sdpa", "S = 2048"].ratio is None


def test_a_cpu_run_is_told_how_it_is_accepted(lab: Lab) -> None:
    """The command that the report names is one that does not refuse the run."""
    files: Files = [lab.cell("sdpa", 128, device="cpu", processes=2)], []
    assert "`python -m nsa accept --cpu` keeps one" in against(lab, files).reason


def test_a_cpu_comparison_decides_nothing(lab: Lab) -> None:
    """Times of a CPU are compared, and fail nothing."""
    accept(lab, ([lab.cell("sdpa", 128, device="cpu", processes=10)], []), cpu=True)
    files = [lab.cell("sdpa", 128, device="cpu", processes=10, parts={"fixed": 0.1}, said=on(23))], []
    lab.render(*files)
    assert len(against(lab, files).regressions) == 1
    assert "Times of a CPU decide nothing." in text(lab)
    assert said_of(lab.layout.gate).status == 3


def test_another_driver_or_torch_is_named(lab: Lab) -> None:
    """Software whose version differs is said beside the change."""
    older = ABOUT.model_copy(update={"environment": ENVIRONMENT.model_copy(update={"torch": "2.11"})})
    accept(lab, ([lab.cell("sdpa", 128, said={"provenance": older})], []))
    files = [lab.cell("sdpa", 128)], []
    lab.render(*files)
    assert against(lab, files).since == ("torch 2.11 → 2.13",)
    assert "Other software since: torch 2.11 → 2.13." in text(lab)
