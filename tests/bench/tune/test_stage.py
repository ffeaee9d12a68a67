"""The tuning stage: its artifact says what was tuned, or why nothing was."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standins import DIGESTS, ENVIRONMENT, ON_CPU, ON_CUDA, WITH_GPU, in_this_process, stage_inputs

from nsa.bench.runner import Replicated
from nsa.bench.tune import stage
from nsa.bench.tune.job import Job, Sizes, StepSizes, TunedSize, TuneFacts
from nsa.bench.tune.replicate import shapes
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice, Flags, RooflineSettings
from nsa.errors import ConfigError, KernelFailed, NoMemory
from nsa.kernels import registry
from nsa.kernels.triton import tuning
from nsa.kernels.triton.plan import LaunchConfig, Size
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records import files
from nsa.records.outcome import Ok

STEP = StepSizes(
    rows=2, heads_per_group=4, head_dim=32, value_dim=32, sel_count=4, sel_block=16, groups=2, dtype=DtypeByDevice()
)
CHECK = CheckSettings(rows=(4,), heads_per_group=(2,), head_dim=(64,), value_dim=(32,), cpu_rows=4, cpu_context=512)
SIZES = Sizes(STEP, CHECK, RooflineSettings(rows=(4, 8), dtype="float32"))
STAMPED = {"sizes": {"step": STEP.model_dump(mode="json"), "check": {"rows": [8]}, "roofline": {}}}
SIZE = Size(rows=2, heads=4, count=4, block=16, head_dim=32, value_dim=32, itemsize=2, processors=132)
PLAN = LaunchConfig(tokens=64, warps=4, splits=1, prefetch=False)


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which Triton can run, with four cores."""
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


def work(job: Job, turn: Turn) -> Replicated[TuneFacts]:
    """A process that tunes one size."""
    size = TunedSize(size=replace(SIZE, rows=job.process), plan=PLAN, rule=PLAN, candidates=(), aa_ratio=1.0)
    return Replicated([], TuneFacts(device=job.host.device, tuned_for="this GPU", sizes=(size,)))


def artifact(tmp_path: Path, environment: Any = WITH_GPU) -> dict[str, Any]:
    """What the stage's command writes."""
    out = tmp_path / "tune" / "triton.json"
    stage.run(*stage_inputs(tmp_path, "tune/triton", STAMPED, environment), out)
    return files.read_json(out)


def test_the_processes_tune_their_shares_and_the_backend_reads_all(
    able: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact has every process's sizes, what they hold for and where it comes from."""
    jobs = in_this_process(monkeypatch, work)
    record = artifact(tmp_path)
    assert [(job.process, job.of) for job in jobs] == [(process, 4) for process in range(4)]
    assert {job.sizes.check.rows for job in jobs} == {(8,)}
    assert (record["status"], record["reason"], record["fix"]) == ("ok", None, None)
    assert record["tuned_for"] == "this GPU" and record["device"] == ON_CUDA.device.model_dump()
    assert record["stamp"] == DIGESTS.model_dump()
    read = tuning.of(record)
    assert sorted(size.rows for size in read.plans) == [0, 1, 2, 3] and not read.ended_badly


@pytest.mark.parametrize(
    ("error", "status", "fix"),
    [
        (KernelFailed("triton: an illegal memory access"), "failed", "see results/logs/artifact_triton.log, and mend "),
        (NoMemory("CUDA out of memory."), "oom", "use a GPU with more memory"),
    ],
)
def test_a_tuning_that_ends_badly_is_an_artifact_that_says_so(
    able: None, error: Exception, status: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure in any process leaves no size, and the backend is told."""

    def second_fails(job: Job, turn: Turn) -> Replicated[TuneFacts]:
        if job.process == 1:
            raise error
        return work(job, turn)

    in_this_process(monkeypatch, second_fails)
    record = artifact(tmp_path)
    assert (record["status"], record["reason"], record["sizes"]) == (status, str(error), [])
    assert str(record["fix"]).startswith(fix) and record["tuned_for"] is None
    assert tuning.of(record).ended_badly and tuning.of(record).plans == {}


def test_processes_on_two_kinds_of_software_are_no_tuning(able: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the configurations hold for is the same in all of them."""

    def other(job: Job, turn: Turn) -> Replicated[TuneFacts]:
        found = work(job, turn)
        return Replicated([], found.facts.model_copy(update={"tuned_for": f"software {job.process}"}))

    in_this_process(monkeypatch, other)
    outcome = stage.measure(SIZES, ON_CUDA, print).outcome
    assert outcome.status == "failed" and "disagree on tuned_for: 'software 0' in process 1" in str(outcome.reason)


def test_without_a_gpu_the_artifact_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was to be tuned, and what comes after goes on."""
    jobs = in_this_process(monkeypatch)
    record = artifact(tmp_path, ENVIRONMENT)
    assert (record["status"], record["reason"]) == ("unavailable", "no CUDA device is visible")
    assert record["fix"] and record["sizes"] == [] and record["device"] == ON_CPU.device.model_dump() and not jobs
    assert not tuning.of(record).ended_badly


def test_stamped_sizes_that_are_none_are_one_line() -> None:
    """The stamp and the key are named."""
    broken = {**STAMPED["sizes"], "step": {"rows": 2}}
    with pytest.raises(ConfigError, match=r"^results/.stamps/tune.json lacks the key 'groups'"):
        Sizes.of(json.loads(json.dumps(broken)), "results/.stamps/tune.json")


def test_memory_grows_with_what_is_held() -> None:
    """The estimate covers the caches of the largest shape."""
    largest = 1024 * 4096 * (128 + 128) * 2
    assert largest < stage.memory_bytes(Sizes(STEP, CheckSettings(), RooflineSettings())) < 8 * largest


@pytest.mark.gpu
def test_a_tuning_on_a_gpu_times_right_configurations() -> None:
    """Every candidate can be launched and is right, and the backend reads what the stage found."""
    outcome = stage.measure(SIZES, Host.of("cuda", Flags(), probe(), {}), print).outcome
    assert isinstance(outcome, Ok)
    facts = outcome.facts
    assert len(facts.sizes) == len(shapes(SIZES, "cuda"))
    assert all(tried.fault is None for size in facts.sizes for tried in size.candidates)
    assert all(size.aa_ratio is not None and 0.5 < size.aa_ratio < 2 for size in facts.sizes)
    document = {"status": "ok", "reason": None, "fix": None, **facts.model_dump(mode="json", exclude={"device"})}
    assert len(tuning.of(document).plans) == len(facts.sizes)
