"""The verdict as an exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standins import ENVIRONMENT

from nsa.errors import RecordError
from nsa.report.verdict.exit import read

NOT_RUN = {"verdict": "NOT MEASURED", "wrong_shapes": [], "reason": "cuda is failed (it crashed)."}
CELL = {"backend": "cuda", "S": 128, "reason": "it crashed"}


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({}, 0, "invest: GO"),
        ({"invest": {"verdict": "NO-GO", "reason": "r"}}, 0, "invest: NO-GO"),
        ({"invest": {"verdict": "INCONCLUSIVE", "reason": "r"}}, 1, "invest: INCONCLUSIVE. r"),
        ({"invest": {"verdict": "NOT MEASURED", "reason": "r"}}, 3, "invest: NOT MEASURED"),
        ({"accept": {"cuda": {"verdict": "REJECT", "wrong_shapes": []}}}, 1, "accept cuda: REJECT."),
        ({"accept": {"cuda": {"verdict": "INCONCLUSIVE", "wrong_shapes": []}}}, 1, "accept cuda: INCONCLUSIVE."),
        ({"accept": {"cuda": {"verdict": "NOT MEASURED", "wrong_shapes": ["x"]}}}, 1, "accept cuda: NOT MEASURED."),
        ({"accept": {"cuda": {"verdict": "NOT MEASURED", "wrong_shapes": []}}}, 0, "invest: GO"),
        (
            {"anomalies": [{"severity": "blocking", "name": "n", "cell": "c", "message": "m"}]},
            1,
            "blocking check: n on c: m",
        ),
        ({"anomalies": [{"severity": "warning", "name": "n", "cell": "c", "message": "m"}]}, 0, "invest: GO"),
        (
            {"comparison": {"regressions": ["cuda decode, S = 128: slower by"]}},
            1,
            "regression: cuda decode, S = 128: slower by",
        ),
        ({"comparison": {"regressions": ["slower on a CPU"], "decides": False}}, 0, "invest: GO"),
        ({"comparison": {"status": "none"}}, 0, "invest: GO"),
        (
            {"accept": {"cuda": {**NOT_RUN, "status": "failed", "fix": "see the log"}}},
            1,
            "accept cuda: NOT MEASURED. cuda is failed (it crashed). See the log.",
        ),
        ({"accept": {"cuda": {**NOT_RUN, "status": "unavailable"}}}, 0, "invest: GO"),
        ({"decode": [{**CELL, "status": "failed", "fix": "f"}]}, 1, "failed: cuda at S = 128: it crashed; f"),
        ({"decode": [{**CELL, "status": "oom"}]}, 0, "oom: cuda at S = 128: it crashed"),
        ({"artifacts": {"cuda": {"status": "failed", "reason": "nvcc"}}}, 1, "failed: the own stage of cuda: nvcc"),
        ({"artifacts": {"cuda": {"status": "skipped", "reason": "no GPU"}}}, 0, "invest: GO"),
        (
            {"comparison": {"status": "invalid", "reason": "the accepted run is INVALID"}},
            1,
            "the accepted run: the accepted run is INVALID",
        ),
    ],
)
def test_exit_status(tmp_path: Path, change: dict[str, dict[str, object]], status: int, said: str) -> None:
    """0 is decided, 1 rejected, wrong, failed, blocked, slower or inconclusive, 3 not measured; the line says which."""
    sound = {"invest": {"verdict": "GO", "reason": "r"}, "accept": {}, "anomalies": []}
    comparison = {"status": "compared", "reason": "c", "decides": True, "regressions": []}
    gate = {**sound, **change, "comparison": {**comparison, **change.get("comparison", {})}}
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(gate))
    found = read(path)
    assert found.status == status and any(line.startswith(said) for line in found.lines), found
    assert all("\n" not in line for line in found.lines)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"invest": 1}', "{", '{"schema_version": 1}'])
def test_a_foreign_gate_json_is_one_clear_error(tmp_path: Path, content: str) -> None:
    """A broken, foreign or missing file is an error of one line."""
    path = tmp_path / "gate.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=r"gate\.json: .*; delete it and rerun$") as error:
        read(path)
    assert "\n" not in str(error.value)
    with pytest.raises(RecordError, match="cannot be read"):
        read(tmp_path / "none.json")


def test_every_gate_has_its_line_whatever_the_others_say(tmp_path: Path) -> None:
    """A GO and an ACCEPT are not hidden behind one REJECT."""
    accept = {
        "cuda": {"verdict": "ACCEPT", "wrong_shapes": [], "reason": "All 32 shapes are correct."},
        "triton": {"verdict": "REJECT", "wrong_shapes": [], "reason": "1 of 32 shapes fails."},
    }
    comparison = {"status": "none", "reason": "c", "decides": False, "regressions": []}
    gate = {"invest": {"verdict": "GO", "reason": "r"}, "accept": accept, "anomalies": [], "comparison": comparison}
    (tmp_path / "gate.json").write_text(json.dumps(gate))
    assert read(tmp_path / "gate.json").lines == (
        "invest: GO. r",
        "accept cuda: ACCEPT. All 32 shapes are correct.",
        "accept triton: REJECT. 1 of 32 shapes fails.",
    )


def test_a_gpu_that_torch_cannot_use_is_the_first_line(tmp_path: Path) -> None:
    """Who has a GPU is told why it was not used and what to do, before any verdict."""
    environment = ENVIRONMENT.model_copy(update={"shown_gpus": ("NVIDIA GeForce RTX 4090",), "fix": "install one"})
    comparison = {"status": "none", "reason": "c", "decides": False, "regressions": []}
    gate = {"invest": {"verdict": "NOT MEASURED", "reason": "r"}, "accept": {}, "anomalies": []}
    content = {**gate, "comparison": comparison, "environment": environment.model_dump(mode="json")}
    (tmp_path / "gate.json").write_text(json.dumps(content))
    shown = "the driver shows NVIDIA GeForce RTX 4090, which torch cannot use: torch 2.13.0+cpu has no CUDA support"
    assert read(tmp_path / "gate.json").lines == (f"gpu: {shown}; install one", "invest: NOT MEASURED. r")
