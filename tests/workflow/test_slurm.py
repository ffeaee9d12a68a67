"""The pipeline through a Slurm of one node, whose GPUs are handed out as a cluster's are: see .ci/slurm."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from project import Project

ROOT = Path(__file__).parents[2]
SCRIPT, PLUGIN = ROOT / ".ci" / "slurm", ROOT / ".slurm"
GPU_RULES = {"decode", "kernel_check", "dram", "environment"}
SMALL = {
    "contexts": [128],
    "candidates": [],
    "device": "cpu",
    "build": {"cuda": "skip"},
    "decode": {"iters": 3, "warmup": 1, "processes": 1},
    "check": {"heads_per_group": [4], "head_dim": [64], "value_dim": [64], "sel_count": [8], "cpu_context": 512}
    | {"seeds": 1, "iters": 1, "cpu_rows": 4},
}
PATH = f"/usr/sbin:{os.defpath}"


def missing() -> str | None:
    """Why no Slurm can be started here."""
    if os.getuid() != 0:
        return "slurmd needs root to start a job"
    programs = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "squeue")
    absent = [program for program in programs if shutil.which(program, path=PATH) is None]
    if absent or not PLUGIN.is_dir():
        return f"{', '.join(absent) or 'the executor plugin'} not installed; run `.ci/slurm install`"
    if Path("/etc/slurm/slurm.conf").exists():
        return "this machine has a Slurm of its own"
    return None


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of one node with four GPUs, while the tests run."""
    if reason := missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    try:
        subprocess.run([SCRIPT, "start", folder], check=True)
        yield
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=True)


def test_the_pipeline_runs_through_slurm_with_a_gpu_for_each_timed_job(slurm: None, clone: Project) -> None:
    """Each timed job and the probe get a GPU, the others none, and the pipeline works through the profile."""
    clone.configure(**SMALL)
    environ = {"PYTHONPATH": str(PLUGIN), "PATH": PATH}
    often = ("--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1")
    result = clone.snakemake("--workflow-profile", "profiles/slurm", "--verbose", *often, environ=environ)
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-3000:]

    submitted = re.findall(r"^sbatch call: (sbatch .*?) --wrap", said, re.MULTILINE)
    asked = {re.search(r"--comment rule_(\w+?)(?:_wildcards|\s)", call)[1]: "--gpus=1" in call for call in submitted}  # type: ignore[index]
    assert asked == {rule: rule in GPU_RULES for rule in (*GPU_RULES, "report")}
    jobs = subprocess.check_output(["scontrol", "show", "jobs"], text=True, env={**os.environ, "PATH": PATH})
    assert jobs.count("JobState=COMPLETED") == len(submitted) == 5
    assert jobs.count("TresPerJob=gres:gpu:1") == len(GPU_RULES)  # what Slurm itself handed out
    gate = json.loads((clone.root / "results/gate.json").read_text())
    assert [row["status"] for row in gate["decode"]] == ["ok"]
    assert clone.planned() == set()  # without Slurm, too


def test_the_profile_asks_for_a_gpu_wherever_the_default_one_counts_it() -> None:
    """The probe runs on a node with a GPU, as the timed jobs do, whose rules ask for one."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())
    default = yaml.safe_load((ROOT / "profiles/default/profile.yaml").read_text())
    assert profile["executor"] == "slurm"
    assert profile["set-resources"]["environment"]["gpu"] == 1
    own = {"cores", "resources", "scheduler"}  # of one machine
    assert {key: profile.get(key) for key in default if key not in own} == {
        key: value for key, value in default.items() if key not in own
    }
