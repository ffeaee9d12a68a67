"""The verdict as an exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nsa.errors import RecordError
from nsa.report.verdict.exit import exit_status

NOT_RUN = {"verdict": "NOT MEASURED", "wrong_shapes": [], "reason": "cuda is failed (it crashed)."}
CELL = {"backend": "cuda", "S": 128, "reason": "it crashed"}


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({}, 0, "invest: GO"),
        ({"invest": {"verdict": "NO-GO", "reason": "r"}}, 0, "invest: NO-GO"),
        ({"invest": {"verdict": "INCONCLUSIVE", "reason": "r"}}, 1, "invest is INCONCLUSIVE: r"),
        ({"invest": {"verdict": "NOT MEASURED", "reason": "r"}}, 3, "invest: NOT MEASURED"),
        ({"accept": {"cuda": {"verdict": "REJECT", "wrong_shapes": []}}}, 1, "cuda is rejected"),
        ({"accept": {"cuda": {"verdict": "INCONCLUSIVE", "wrong_shapes": []}}}, 1, "accept of cuda is INCONCLUSIVE"),
        ({"accept": {"cuda": {"verdict": "NOT MEASURED", "wrong_shapes": ["x"]}}}, 1, "cuda gives wrong results"),
        ({"accept": {"cuda": {"verdict": "NOT MEASURED", "wrong_shapes": []}}}, 0, "invest: GO"),
        ({"anomalies": [{"severity": "blocking", "name": "n", "cell": "c", "message": "m"}]}, 1, "n on c: m"),
        ({"anomalies": [{"severity": "warning", "name": "n", "cell": "c", "message": "m"}]}, 0, "invest: GO"),
        ({"comparison": {"regressions": ["cuda decode, S = 128: slower by"]}}, 1, "cuda decode, S = 128: slower by"),
        ({"comparison": {"regressions": ["slower on a CPU"], "decides": False}}, 0, "invest: GO"),
        ({"comparison": {"status": "none"}}, 0, "invest: GO"),
        ({"accept": {"cuda": {**NOT_RUN, "status": "failed"}}}, 1, "accept: cuda is failed (it crashed)."),
        ({"accept": {"cuda": {**NOT_RUN, "status": "unavailable"}}}, 0, "invest: GO"),
        ({"decode": [{**CELL, "status": "failed"}]}, 1, "cuda failed at S = 128: it crashed"),
        ({"decode": [{**CELL, "status": "oom"}]}, 0, "invest: GO"),
        ({"artifacts": {"cuda": {"status": "failed", "reason": "nvcc"}}}, 1, "the own stage of cuda failed: nvcc"),
        ({"artifacts": {"cuda": {"status": "skipped", "reason": "no GPU"}}}, 0, "invest: GO"),
        ({"comparison": {"status": "invalid", "reason": "the accepted run is INVALID"}}, 1, "run is INVALID"),
    ],
)
def test_exit_status(tmp_path: Path, change: dict[str, dict[str, object]], status: int, said: str) -> None:
    """0 is decided, 1 rejected, wrong, failed, blocked, slower or inconclusive, 3 not measured; the line says which."""
    sound = {"invest": {"verdict": "GO", "reason": "r"}, "accept": {}, "anomalies": []}
    comparison = {"status": "compared", "reason": "c", "decides": True, "regressions": []}
    gate = {**sound, **change, "comparison": {**comparison, **change.get("comparison", {})}}
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(gate))
    found, line = exit_status(path)
    assert (found, said in line) == (status, True)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"invest": 1}', "{", '{"schema_version": 1}'])
def test_a_foreign_gate_json_is_one_clear_error(tmp_path: Path, content: str) -> None:
    """A broken, foreign or missing file is an error of one line."""
    path = tmp_path / "gate.json"
    path.write_text(content)
    with pytest.raises(RecordError, match=r"gate\.json: .*; delete it and rerun$") as error:
        exit_status(path)
    assert "\n" not in str(error.value)
    with pytest.raises(RecordError, match="cannot be read"):
        exit_status(tmp_path / "none.json")
