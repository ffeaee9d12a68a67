"""The curve of decode cores: what each process is asked for, and the record without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins import ON_CPU, ON_CUDA, in_this_process, stage_inputs

from nsa.bench.core.job import Job
from nsa.bench.core_curve.stage import measure, run
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CoreCurveSettings, CoreSettings
from nsa.errors import NoMemory
from nsa.kernels import registry
from nsa.records import parquet
from nsa.records.facts import CoreFacts
from nsa.records.outcome import Header, OutOfMemory, Unavailable
from nsa.records.schemas import CORE

CURVE = CoreCurveSettings().cores(CoreSettings())


def test_without_a_gpu_the_record_says_so(tmp_path: Path) -> None:
    """A time on a CPU says nothing of a curve, whatever runs there."""
    stamp, environment = stage_inputs(tmp_path, "core_curve-triton_core", {"core": CURVE.model_dump(mode="json")})
    out = tmp_path / "core_curve" / "triton_core.parquet"
    run("triton_core", stamp, environment, (), out)
    table, header = parquet.read(out, Header[CoreFacts], CORE)
    assert table.num_rows == 0 and (header.stage, header.backend) == ("core_curve", "triton_core")
    assert isinstance(header.outcome, Unavailable) and header.device == ON_CPU.device
    assert header.outcome.reason == "there is no CUDA device to time on"


def test_a_process_times_and_judges_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unseen inputs, corner cases and dense attention are left to the core check; too little memory names the key."""

    def work(job: Job, turn: Turn) -> Replicated[CoreFacts]:
        raise NoMemory("fused: out of memory")

    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    jobs = in_this_process(monkeypatch, work)
    result = measure("fused", CURVE, ON_CUDA, print)
    assert isinstance(result.outcome, OutOfMemory) and "core_curve.max_tokens" in result.outcome.fix
    (job,) = jobs
    assert job.timed_only and job.corners is None and job.settings == CURVE
