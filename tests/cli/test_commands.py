"""The command line: thin, quick to start, and one clear line for an error of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nsa import cli
from nsa.bench.check import stage as kernel_check
from nsa.bench.decode import stage as decode
from nsa.bench.dram import stage as dram
from nsa.cli import app
from nsa.kernels.cuda import build as extension
from nsa.report.analysis import summary
from nsa.report.page import render
from nsa.report.verdict import gates

CARRIED = {"sources": "s", "settings": "c", "machine": None}  # by the records of the stamps below
ROOT = Path(cli.__file__).parents[2]
FLAGS = ("NSA_SEL_CUDA_BUILD", "NSA_SEL_CUDA", "NSA_USE_TRITON_SEL", "NSA_TRITON_SEL_FORCE", "NSA_FA2_FORCE")


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in FLAGS:
        monkeypatch.delenv(flag, raising=False)


def invoke(*arguments: object) -> str:
    """Run a command in this process; an error of ours reaches the test as it is."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def command(*arguments: object, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    line = [sys.executable, *python, "-m", "nsa", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, check=False)


def heavy(result: subprocess.CompletedProcess[str]) -> set[str]:
    """The heavy libraries that a command run with -X importtime has imported."""
    return set(re.findall(r"\| +(torch|triton|matplotlib)$", result.stderr, re.MULTILINE))


def stamp(folder: Path, stage: str, **settings: Any) -> Path:
    """Write a stamp with these settings."""
    path = folder / f"{stage}.json"
    sources = {"digest": "s", "files": []}
    path.write_text(
        json.dumps(
            {
                "stage": stage,
                "sources": sources,
                "settings": settings,
                "settings_digest": "c",
                "machine": None,
                "machine_digest": None,
            }
        )
    )
    return path


def recorded(monkeypatch: pytest.MonkeyPatch, module: object, name: str, result: Any = None) -> list[Any]:
    """Replace a stage's function by one that only writes down how it was called."""
    calls: list[Any] = []

    def record(*arguments: Any, **named: Any) -> Any:
        calls.append((arguments, named) if named else arguments)
        return result

    monkeypatch.setattr(module, name, record)
    return calls


def test_an_error_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    """Without it, a user would read a traceback, and a script could not tell a fault from a verdict."""
    result = command("check", tmp_path / "gate.json")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "gate.json" in result.stderr


def test_check_needs_no_torch(tmp_path: Path) -> None:
    """Without it, asking for the verdict would take seconds."""
    assert heavy(command("check", tmp_path / "gate.json", python=("-X", "importtime"))) == set()


def test_an_unavailable_cell_needs_no_torch(tmp_path: Path) -> None:
    """Without it, each cell of a backend that cannot run here would take seconds to say so."""
    environment = tmp_path / "environment.json"
    environment.write_text(json.dumps({"cuda": False, "cpu": "a CPU", "capability": None}))
    build = tmp_path / "cuda.json"
    build.write_text("{}")
    settings = stamp(tmp_path, "decode-cuda", decode={}, device="cpu", flags={})
    out = tmp_path / "S128.parquet"
    line = ["decode", "--backend", "cuda", "--S", 128, "--stamp", settings, "--environment", environment]
    result = command(*line, "--artifacts", build, "--out", out, python=("-X", "importtime"))
    assert result.returncode == 0, result.stderr
    assert out.exists()
    assert heavy(result) == set()


def test_nothing_counted_needs_neither_torch_nor_pandas(tmp_path: Path) -> None:
    """Without it, a machine without a GPU or ncu would spend seconds for each backend to say so."""
    environment, out = tmp_path / "environment.json", tmp_path / "dram_sdpa.json"
    environment.write_text(json.dumps({"cuda": False, "cpu": "a CPU", "capability": None}))
    settings = stamp(tmp_path, "dram-sdpa", check={}, device="cpu", flags={}, ncu="auto")
    line = ["dram", "--backend", "sdpa", "--stamp", settings, "--environment", environment, "--out", out]
    result = command(*line, python=("-X", "importtime"))
    assert result.returncode == 0, result.stderr
    assert json.loads(out.read_text())["status"] == "skipped"
    assert heavy(result) | set(re.findall(r"\| +(pandas)$", result.stderr, re.MULTILINE)) == set()


@pytest.mark.parametrize(("status", "arguments", "expected"), [(1, (), 1), (3, (), 3), (1, ("--no-exit-status",), 0)])
def test_check_ends_with_the_verdicts_status(
    status: int, arguments: tuple[str, ...], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, continuous integration would pass a rejected kernel, or `make report` fail on one."""
    recorded(monkeypatch, gates, "exit_status", (status, "invest: INCONCLUSIVE"))
    result = CliRunner().invoke(app, ["check", *arguments])
    assert (result.exit_code, result.output) == (expected, "invest: INCONCLUSIVE\n")


def test_build_runs_the_stamped_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it, NSA_SEL_CUDA_BUILD, which only the stamp carries, would be ignored."""
    manifest = {"status": "skipped", "reason": "as asked", "log": None}
    calls = recorded(monkeypatch, extension, "build", manifest)
    assert invoke("build", "--stamp", stamp(tmp_path, "build", cuda="skip"), "--out-dir", tmp_path) == (
        "skipped: as asked\n"
    )
    assert calls == [(("skip", tmp_path), {"facts": {"stamp": CARRIED}})]


def test_collect_uses_the_stamped_confidence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it, the intervals of the summary could be of another confidence than the gate's."""
    calls = recorded(monkeypatch, summary, "collect")
    cells = [Path("S128.parquet"), Path("S256.parquet")]
    invoke("collect", *cells, "--stamp", stamp(tmp_path, "collect", confidence=0.9), "--out", tmp_path / "d.parquet")
    assert calls == [(cells, tmp_path / "d.parquet", 0.9, {"stamp": CARRIED})]


def test_report_sorts_its_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it, a check could be read as a cell, and the report would call it invalid."""
    calls = recorded(monkeypatch, render, "report")
    check = {"rows": [256], "groups": 4}
    gate = {"confidence": 0.95}
    settings = {"baseline": "sdpa", "backends": ["sdpa"], "target_contexts": [128], "check": check, "gates": gate}
    stamped = stamp(tmp_path, "report", **settings, config={"contexts": [128]})
    records = ["check_cuda.parquet", "cuda/S128.parquet", "decode_cuda.parquet", "dram_cuda.json"]
    invoke("report", *records, "--stamp", stamped, "--environment", "environment.json", "--out-dir", tmp_path)
    ((_, named),) = calls
    assert named["cells"] == [Path("cuda/S128.parquet")]
    assert named["summaries"] == [Path("decode_cuda.parquet")]
    assert named["checks"] == [Path("check_cuda.parquet")]
    assert named["dram"] == [Path("dram_cuda.json")]
    assert named["build"] is None
    assert named["stamps"] == {"report": {"sources": "s", "settings": "c", "machine": None}}
    assert named["echo"] == {"contexts": [128]}


@pytest.mark.parametrize(
    ("arguments", "module", "function"),
    [(["decode", "--S", "128"], decode, "run_cell"), (["kernel-check"], kernel_check, "run"), (["dram"], dram, "run")],
)
def test_a_timing_command_hands_on_what_it_is_given(
    arguments: list[str], module: object, function: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without it, a stage could read another stage's settings, or write where Snakemake does not look."""
    ran = recorded(monkeypatch, module, function)
    stamped, out = stamp(tmp_path, "any", device="cpu"), tmp_path / "out.parquet"
    invoke(*arguments, "--backend", "sdpa", "--stamp", stamped, "--environment", "environment.json", "--out", out)
    ((backend, *_, environment, artifacts, written),) = ran
    assert (backend, environment, artifacts, written) == ("sdpa", Path("environment.json"), (), out)
