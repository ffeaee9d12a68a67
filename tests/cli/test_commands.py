"""The command line: thin, quick to start, and one clear line for an error of ours."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from standins import ENVIRONMENT
from typer.testing import CliRunner

from nsa import cli
from nsa.bench import artifact
from nsa.bench.check import stage as kernel_check
from nsa.bench.core import stage as core_check
from nsa.bench.core_curve import stage as core_curve
from nsa.bench.decode import stage as decode
from nsa.bench.dram import stage as dram
from nsa.bench.roofline import stage as roofline
from nsa.cli import app
from nsa.config import Config, DecodeSettings
from nsa.records import files
from nsa.records.facts import Digests
from nsa.records.stamp import Sources, Stamp, digest
from nsa.report.analysis import summary
from nsa.report.page import render
from nsa.report.verdict import exit as verdict

CARRIED = Digests(sources=digest({}), settings="c", machine=None)  # by the records of the stamps below
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
    path, sources = folder / f"{stage}.json", Sources(digest=CARRIED.sources, files=())
    made = Stamp(
        stage=stage, sources=sources, settings=settings, settings_digest="c", machine=None, machine_digest=None
    )
    files.write_model(path, made)
    return path


def environment(folder: Path) -> Path:
    """Write the record of a machine without a GPU."""
    path = folder / "environment.json"
    files.write_model(path, ENVIRONMENT)
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
    """A user reads no traceback, and a script can tell a fault from a verdict."""
    result = command("check", tmp_path / "gate.json")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "gate.json" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bench", "--iters", "x"), "'--iters'"),
        (("summarize",), "Missing argument"),
        (("check", "--colour"), "--colour"),
        (("check", "nowhere.json"), "expected the gate.json of a report"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    """What is wrong, and nothing else, as of a wrong file."""
    result = command(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert said in result.stderr


def test_check_needs_no_torch(tmp_path: Path) -> None:
    """Asking for the verdict takes no seconds."""
    assert heavy(command("check", tmp_path / "gate.json", python=("-X", "importtime"))) == set()


def test_a_stages_command_starts_without_the_guides() -> None:
    """What the guide's options have for defaults is imported where they, or help, are asked for, and only there."""
    assert "nsa.cli.guide" not in command("env", "--help", python=("-X", "importtime")).stderr
    assert {"env", "bench", "summarize", "doctor"} <= set(command("--help").stdout.split())
    assert "--S_list" in command("bench", "--help").stdout
    assert "Did you mean 'bench'?" in command("bnch").stderr
    assert " ..." not in command().stderr.replace("[ARGS]...", "")  # of what a command does nothing is cut off


def test_an_unavailable_cell_needs_no_torch(tmp_path: Path) -> None:
    """A cell of a backend that cannot run here says so without loading what it would run with."""
    build = tmp_path / "build" / "cuda.json"
    files.write_text(build, "{}")
    decode = DecodeSettings().model_dump(mode="json")
    settings = stamp(tmp_path, "decode-cuda", decode=decode, device="cpu", flags={})
    out = tmp_path / "S128.parquet"
    line = ["decode", "--backend", "cuda", "--S", 128, "--stamp", settings, "--environment", environment(tmp_path)]
    result = command(*line, "--artifacts", build, "--out", out, python=("-X", "importtime"))
    assert result.returncode == 0, result.stderr
    assert out.exists()
    assert heavy(result) == set()


def test_nothing_counted_needs_neither_torch_nor_pandas(tmp_path: Path) -> None:
    """A machine without a GPU or ncu spends no seconds for each backend to say so."""
    out = tmp_path / "dram_sdpa.json"
    settings = stamp(tmp_path, "dram-sdpa", check={}, device="cpu", flags={}, ncu="auto")
    line = ["dram", "--backend", "sdpa", "--stamp", settings, "--environment", environment(tmp_path), "--out", out]
    result = command(*line, python=("-X", "importtime"))
    assert result.returncode == 0, result.stderr
    assert json.loads(out.read_text())["outcome"]["status"] == "skipped"
    assert heavy(result) | set(re.findall(r"\| +(pandas)$", result.stderr, re.MULTILINE)) == set()


@pytest.mark.parametrize(("status", "arguments", "expected"), [(1, (), 1), (3, (), 3), (1, ("--no-exit-status",), 0)])
def test_check_ends_with_the_verdicts_status(
    status: int, arguments: tuple[str, ...], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuous integration does not pass a rejected kernel, and `make report` does not fail on one."""
    recorded(monkeypatch, verdict, "read", verdict.Said(status, ("invest: GO. r", "accept cuda: REJECT.")))
    result = CliRunner().invoke(app, ["check", *arguments])
    said = ["invest: GO. r", "accept cuda: REJECT.", "report: results/gate_report.html"]
    assert (result.exit_code, result.output.splitlines()) == (expected, said)


def test_an_artifact_is_made_by_its_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command hands on the backend, the stamp, the environment and where to write."""
    calls = recorded(monkeypatch, artifact, "run")
    paths = [Path("stamp.json"), Path("environment.json"), Path("out.json")]
    invoke("artifact", "--backend", "cuda", "--stamp", paths[0], "--environment", paths[1], "--out", paths[2])
    assert calls == [("cuda", *paths)]


def test_collect_uses_the_stamped_confidence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The intervals of the summary are of the gate's confidence."""
    calls = recorded(monkeypatch, summary, "collect")
    cells = [Path("S128.parquet"), Path("S256.parquet")]
    invoke("collect", *cells, "--stamp", stamp(tmp_path, "collect", confidence=0.9), "--out", tmp_path / "d.parquet")
    assert calls == [(cells, tmp_path / "d.parquet", 0.9, CARRIED)]


def test_report_sorts_its_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A check is not read as a cell, and what decides is the stamped configuration."""
    calls = recorded(monkeypatch, render, "report")
    raw = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"contexts": [128]}
    stamped = stamp(tmp_path, "report", config=raw, flags={"NSA_FA2_FORCE": True})
    records = ["check_cuda.parquet", "cuda/S128.parquet", "dram_cuda.json", str(tmp_path / "core" / "fused.parquet")]
    line = ["--stamp", stamped, "--environment", "environment.json", "--artifacts", "build/cuda.json"]
    invoke("report", *records, *line, "--out-dir", tmp_path)
    ((_, named),) = calls
    assert named["cells"] == [Path("cuda/S128.parquet")]
    assert named["checks"] == [Path("check_cuda.parquet")]
    assert named["cores"] == [tmp_path / "core" / "fused.parquet"]
    assert named["dram"] == [Path("dram_cuda.json")]
    assert named["artifacts"] == [Path("build/cuda.json")]
    assert named["stamps"] == {"report": CARRIED}
    assert named["config"] == Config.parse(raw, {"NSA_FA2_FORCE": "1"})


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["decode", "--S", "128"], decode),
        (["kernel-check"], kernel_check),
        (["core-check"], core_check),
        (["core-curve"], core_curve),
        (["dram"], dram),
        (["roofline"], roofline),
    ],
)
def test_a_timing_command_hands_on_what_it_is_given(
    arguments: list[str], module: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage reads its own settings, and writes where Snakemake looks."""
    ran = recorded(monkeypatch, module, "run")
    own = [] if arguments == ["roofline"] else ["--backend", "sdpa"]
    paths = [Path("stamp.json"), Path("environment.json"), Path("tune/triton.json"), Path("out.parquet")]
    options = zip(("--stamp", "--environment", "--artifacts", "--out"), paths, strict=True)
    invoke(*arguments, *own, *(word for option in options for word in option))
    ((*about, stamped, environment, artifacts, written),) = ran
    assert about == ([] if arguments == ["roofline"] else ["sdpa", 128] if "--S" in arguments else ["sdpa"])
    assert (stamped, environment, list(artifacts), written) == (paths[0], paths[1], [paths[2]], paths[3])
