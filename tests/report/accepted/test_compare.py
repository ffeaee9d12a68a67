"""A report beside the accepted run: what it says, where it says nothing, and what fails `nsa check`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nsa.records import parquet
from nsa.report.accepted.keep import keep
from nsa.report.verdict.gates import exit_status
from nsa.report.verdict.run import read_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

ENVIRONMENT = {"device": "NVIDIA Synthetic", "cpu": "Synthetic CPU"}
Files = tuple[list["Path"], list["Path"]]


def measure(lab: Lab, speedup: float = 2.0, **cell: Any) -> Files:
    """The records of one run; its cuda cell can be made slower."""
    cells = [lab.cell("sdpa", S, processes=10) for S in (128, 2048)]
    return [*cells, lab.cell("cuda", 2048, **{"processes": 10, **cell})], [
        lab.check("cuda", speedup=speedup, processes=10)
    ]


def accept(lab: Lab, files: Files, *, cpu: bool = False) -> None:
    cells, checks = files
    run = read_run(ENVIRONMENT, lab.collect(cells), cells, checks, lab.stamps, lab.settings)
    keep(run, lab.stamps, lab.config, lab.accepted, cpu=cpu)


def verdicts(gate: dict[str, Any]) -> dict[tuple[str, str], str]:
    """What is said of each backend and context; a kernel check is named by its kind of line."""
    lines = gate["comparison"]["lines"]
    return {(line["backend"], line["where"].partition(" of ")[0].partition(":")[0]): line["verdict"] for line in lines}


def text(lab: Lab) -> str:
    return (lab.root / "gate_report.md").read_text()


def test_without_an_accepted_run_the_report_says_so(lab: Lab) -> None:
    """A missing baseline is no fault, and no comparison either."""
    gate = lab.render(*measure(lab))
    assert gate["comparison"]["status"] == "none"
    assert "There is no accepted run of NVIDIA Synthetic; `python -m nsa accept` keeps one." in text(lab)
    assert exit_status(lab.root / "gate.json")[0] == 0


def test_a_slower_cell_and_kernel_are_named_and_fail_the_check(lab: Lab) -> None:
    """The purpose of it all: the kernel edit that costs 10 % must not land unseen."""
    accept(lab, measure(lab))
    gate = lab.render(*measure(lab, speedup=1.8, parts={"fixed": 0.042}))
    assert verdicts(gate) == {
        ("sdpa", "S = 128"): "same",
        ("sdpa", "S = 2048"): "same",
        ("cuda", "S = 2048"): "slower",
        ("cuda", "geometric mean"): "slower",
        ("cuda", "worst shape"): "slower",
    }
    status, said = exit_status(lab.root / "gate.json")
    assert status == 1
    assert "cuda decode, S = 2048: slower by +12.5 %" in said
    assert "cuda kernel check, geometric mean of 4 shapes: slower by +11.1 %" in said
    assert "## Change since the accepted run" in text(lab)
    line = next(line for line in text(lab).splitlines() if line.startswith("| decode ms | cuda | S = 2048 |"))
    assert line.split(" | ")[3:5] == ["0.0961", "0.108"]
    assert line.endswith("] | **slower** |")
    assert "**cuda decode, S = 2048: slower by" in text(lab)


def test_a_slowdown_within_the_margin_is_shown_and_passes(lab: Lab) -> None:
    """The margin is the user's: a step that is 3 % slower may be the price of a feature."""
    accept(lab, measure(lab))
    gate = lab.render(*measure(lab, parts={"fixed": 0.033}))
    assert verdicts(gate)["cuda", "S = 2048"] == "slower"
    assert exit_status(lab.root / "gate.json")[0] == 0
    strict = replace(
        lab, settings=replace(lab.settings, gates=replace(lab.settings.gates, regression={"margin": 0.02}))
    )
    strict.render(*measure(lab, parts={"fixed": 0.033}))
    assert exit_status(lab.root / "gate.json")[0] == 1


def test_a_faster_kernel_is_called_so(lab: Lab) -> None:
    """An improvement that is not shown is not accepted."""
    accept(lab, measure(lab))
    gate = lab.render(*measure(lab, speedup=2.5, parts={"sel": 0.03}))
    assert {verdicts(gate)["cuda", where] for where in ("S = 2048", "geometric mean")} == {"faster"}
    assert exit_status(lab.root / "gate.json")[0] == 0


NOT_COMPARABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "config": ({}, {"window": 256}, "other config: decode.model.window was 512, is 256"),
    "blocked": ({"facts": {"outputs_finite": False}}, {}, "blocked by output_not_finite"),
    "unavailable": ({"status": "unavailable"}, {}, "today it is unavailable (cuda is not here)"),
    "stale": ({"facts": {"stamp": {"sources": "old"}}}, {}, "today it is STALE (sources"),
}


@pytest.mark.parametrize("case", NOT_COMPARABLE)
def test_what_cannot_be_compared_says_why(case: str, lab: Lab) -> None:
    """A ratio of unlike things would be called a regression, or hide one."""
    of_cell, model, reason = NOT_COMPARABLE[case]
    accept(lab, measure(lab))
    decode = {**lab.config["decode"], "model": {**lab.config["decode"]["model"], **model}}
    gate = replace(lab, config={**lab.config, "decode": decode}).render(*measure(lab, **of_cell))
    line = next(line for line in gate["comparison"]["lines"] if (line["backend"], line["kind"]) == ("cuda", "decode"))
    assert line["verdict"] == "not comparable"
    assert line["reason"].startswith(reason)
    assert verdicts(gate)["cuda", "geometric mean"] == "same"  # the kernel check is not touched by it


def test_how_often_it_is_timed_does_not_matter(lab: Lab) -> None:
    """A run of 3 processes must be comparable with an accepted one of 10."""
    accept(lab, measure(lab))
    decode = {**lab.config["decode"], "processes": 5, "iters": 99, "seed": 3}
    gate = replace(lab, config={**lab.config, "decode": decode}).render(*measure(lab))
    assert set(verdicts(gate).values()) == {"same"}


def test_cells_of_one_run_only_are_named(lab: Lab) -> None:
    """A context that was dropped, and a slow one that was added, must both be seen."""
    cells, checks = measure(lab)
    accept(lab, (cells[1:], checks))
    gate = lab.render(cells[:2], checks)
    reasons = {(line["backend"], line["where"]): line["reason"] for line in gate["comparison"]["lines"]}
    assert reasons["sdpa", "S = 128"] == "it is not in the accepted run"
    assert reasons["cuda", "S = 2048"] == "it is not measured any more"


def test_another_gpu_is_not_comparable(lab: Lab) -> None:
    """Times of another model say nothing about a change of ours."""
    accept(lab, measure(lab))
    (lab.accepted / "nvidia-synthetic.parquet").rename(lab.accepted / "nvidia-h200.parquet")
    gate = lab.render(*measure(lab))
    assert gate["comparison"]["status"] == "not comparable"
    assert "another GPU. No run of NVIDIA Synthetic was accepted (nvidia-synthetic.parquet), only nvidia-h200." in text(
        lab
    )


def test_a_renamed_baseline_is_not_comparable(lab: Lab) -> None:
    """The file says of which model it is; its name does not decide."""
    accept(lab, measure(lab))
    path = lab.accepted / "nvidia-synthetic.parquet"
    table, facts = parquet.read(path)
    parquet.write_table(path, table, {**facts, "model": "NVIDIA H200"})
    assert lab.render(*measure(lab))["comparison"]["reason"].endswith(
        "is of NVIDIA H200, and this run is of NVIDIA Synthetic."
    )


def test_a_broken_baseline_is_invalid_and_fails_the_check(lab: Lab) -> None:
    """Passing would switch the comparison off for everybody, unseen."""
    lab.accepted.mkdir()
    (lab.accepted / "nvidia-synthetic.parquet").write_bytes(b"broken")
    lab.render(*measure(lab))
    assert exit_status(lab.root / "gate.json") == (
        1,
        json.loads((lab.root / "gate.json").read_text())["comparison"]["reason"],
    )
    assert "The accepted run is INVALID" in text(lab)


def test_the_accepted_records_themselves_are_the_same(lab: Lab) -> None:
    """Right after `nsa accept`, an interval of a run against itself would be a figure from nothing."""
    about = {
        "git_commit": "abc",
        "git_dirty": False,
        "utc_time": "2026-11-22T10:00:00",
        "environment": {"torch": "2.13"},
    }
    files = measure(lab, facts={"provenance": about})
    accept(lab, files)
    lines = {line["backend"]: line for line in lab.render(*files)["comparison"]["lines"] if line["kind"] == "decode"}
    assert (lines["cuda"]["verdict"], lines["cuda"]["reason"]) == ("same", "it is the accepted record")
    assert lines["cuda"]["ratio"] is None
    assert lines["sdpa"]["ratio"] is not None


def test_a_cpu_comparison_decides_nothing(lab: Lab) -> None:
    """Wall times of a busy CPU would fail every other run."""
    accept(lab, ([lab.cell("sdpa", 128, device="cpu", processes=10)], []), cpu=True)
    gate = lab.render([lab.cell("sdpa", 128, device="cpu", processes=10, parts={"fixed": 0.1})])
    assert len(gate["comparison"]["regressions"]) == 1
    assert "Times of a CPU decide nothing." in text(lab)
    assert exit_status(lab.root / "gate.json")[0] == 3


def test_another_driver_or_torch_is_named(lab: Lab) -> None:
    """The reader must know that the code is not the only thing that changed."""

    def about(torch: str) -> dict[str, Any]:
        return {"provenance": {"environment": {"torch": torch, "driver": "580.1"}}}

    accept(lab, ([lab.cell("sdpa", 128, facts=about("2.11"))], []))
    gate = lab.render([lab.cell("sdpa", 128, facts=about("2.13"))])
    assert gate["comparison"]["since"] == ["torch 2.11 → 2.13"]
    assert "Other software since: torch 2.11 → 2.13." in text(lab)


def test_two_models_in_one_report_are_refused_by_name(lab: Lab) -> None:
    """Two models in one table would be compared as if they were two backends; two cards of one model are alike."""
    other = {"alter": ({"device": "cuda"}, {"device_name": "NVIDIA A100"})}
    second = {"alter": ({"device": "cuda"}, {"device_uuid": "GPU-1"})}
    cells = [lab.cell("sdpa", 128, **second), lab.cell("sdpa", 2048), lab.cell("cuda", 2048, **other)]
    gate = lab.render(cells, [lab.check("cuda", facts={"device_name": "NVIDIA A100"})])
    assert [row["status"] for row in gate["decode"]] == ["ok", "ok", "invalid"]
    reason = "cuda/S2048 was measured on NVIDIA A100, and this run is of NVIDIA Synthetic"
    assert gate["decode"][2]["reason"] == reason
    assert gate["accept"]["cuda"]["verdict"] == "NOT MEASURED"
    assert exit_status(lab.root / "gate.json")[0] == 1
    assert "GPU-0: sdpa at S = 2048; GPU-1: sdpa at S = 128" in text(lab)  # which card measured what
