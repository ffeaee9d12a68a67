"""What a finished run says is of the configuration that it was made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from nsa.cli import app, guide
from nsa.config import Config

ROOT = Path(guide.__file__).parents[2]  # importing it registers summarize
CSV = "S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected\n128,1.0,0.1,0.5,0.1,100,100\n"


@pytest.fixture
def raw() -> dict[str, Any]:
    """The content of config.yaml."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    return content


def summarized(csv: Path, *options: str) -> str:
    """What `nsa summarize` prints, on one line."""
    result = CliRunner().invoke(app, ["summarize", str(csv), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.output.split())


def test_summarize_reads_the_thresholds_of_the_run(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table in a results folder is judged as its run was, another by config.yaml, and either as --config asks."""
    monkeypatch.chdir(ROOT)
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    gates = {**raw["gates"], "invest": {"go": 0.9, "no_go": 0.8, "max_disagreement": 0.03}}
    run = Config.parse({**raw, "gates": gates}, {})
    for folder in (results, elsewhere):
        folder.mkdir()
        (folder / "decode.csv").write_text(CSV)
    (results / "gate.json").write_text(json.dumps({"schema_version": 2, "config": run.document(), "flags": {}}))
    assert "below 80 %" in summarized(results / "decode.csv")
    assert "at least 30 %" in summarized(elsewhere / "decode.csv")
    assert "at least 30 %" in summarized(results / "decode.csv", "--config", "config.yaml")
