"""The workflow files, which no machine of ours can run: their structure, and that each of their commands exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SYSTEM = {"cat", "echo", "grep", "sudo", "test"}  # on every runner
VENV = ".venv/bin/"


def load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def runs(path: Path) -> list[str]:
    """The `run:` texts of a workflow, GitHub's expressions replaced."""
    steps = [step for job in load(path)["jobs"].values() for step in job["steps"]]
    return [re.sub(r"\$\{\{.*?\}\}", "x", step["run"]) for step in steps if "run" in step]


def commands(path: Path) -> list[list[str]]:
    """Each command of a workflow as its words, without variables before it, pipes and redirections."""
    found = []
    for line in "\n".join(runs(path)).splitlines():
        for part in re.sub(r" >.*", "", line).split("||"):
            words = [word for word in shlex.split(part) if word != "sudo" and not re.match(r"[A-Z_]+=", word)]
            found += [words] if words else []
    return found


ALL = [(path.name, " ".join(words), words) for path in WORKFLOWS for words in commands(path)]


def test_both_workflows_are_here() -> None:
    """Both workflow files exist: the tests below are made from them."""
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "gpu.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_follows_githubs_schema(path: Path) -> None:
    """Each workflow follows GitHub's schema, misspelt keys included."""
    pytest.importorskip("check_jsonschema", reason="check-jsonschema is not installed")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_its_shell_parses(path: Path) -> None:
    """The shell text of each step parses."""
    for text in runs(path):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


@pytest.mark.parametrize(
    ("workflow", "words"), [(name, words) for name, _, words in ALL], ids=[text for _, text, _ in ALL]
)
def test_every_command_exists(workflow: str, words: list[str]) -> None:
    """Every command, make target and file that a workflow names exists."""
    program, *arguments = words
    here = [sys.executable, "-m"]
    if program in SYSTEM:
        assert program != "cat" or arguments == ["results/gate_report.md"]
    elif program == "make":
        run(["make", "-n", *arguments])
    elif program == f"{VENV}snakemake":
        for place, word in enumerate(arguments):
            if word in ("--workflow-profile", "--configfile"):
                assert (ROOT / arguments[place + 1]).exists()
    elif program == f"{VENV}python" and arguments[:2] == ["-m", "nsa"]:
        run([*here, "nsa", *arguments[2:], "--help"])
    elif program == f"{VENV}python" and arguments[:2] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in arguments if word.endswith(".py"))
    elif program == f"{VENV}python":
        run([*here, arguments[1], "--help"])
    else:
        assert program == ".ci/slurm"
        run(["bash", "-n", program])


def run(command: list[str]) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_strangers_pull_request_never_runs_on_our_gpu() -> None:
    """No workflow runs on the GPU runner for a pull request."""
    triggers = load(ROOT / ".github/workflows/gpu.yml")[True]  # YAML 1.1 reads the key `on` as true
    assert set(triggers) == {"workflow_dispatch", "push"}
