"""The core check's stage: what it asks for, and its record without a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins import ON_CPU, ON_CUDA, in_this_process, stage_inputs

from nsa.bench.core.job import Job
from nsa.bench.core.stage import check, memory_bytes, run
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CoreSettings
from nsa.errors import KernelFailed
from nsa.kernels import registry
from nsa.records import parquet
from nsa.records.facts import CoreFacts
from nsa.records.outcome import Failed, Header, Unavailable
from nsa.records.schemas import CORE


@pytest.fixture
def anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every backend can run."""
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)


def test_every_process_has_the_whole_grid(anywhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicates are processes; the seed of the corner cases is the run's own, and known to nobody before."""

    def work(job: Job, turn: Turn) -> Replicated[CoreFacts]:
        raise KernelFailed("fused: RuntimeError: an illegal memory access")

    jobs = in_this_process(monkeypatch, work)
    for _ in range(2):
        result = check("fused", CoreSettings(), ON_CUDA, print)
        assert isinstance(result.outcome, Failed) and "core_fused.log" in result.outcome.fix
    assert [job.process for job in jobs] == [0, 0] and jobs[0].corners != jobs[1].corners
    assert jobs[0].settings == CoreSettings()


def test_without_a_gpu_the_fused_core_is_unavailable_with_its_reason(tmp_path: Path) -> None:
    """Nothing runs in its place."""
    stamp, environment = stage_inputs(tmp_path, "core-fused", {"core": CoreSettings().model_dump(mode="json")})
    out = tmp_path / "core" / "fused.parquet"
    run("fused", stamp, environment, (), out)
    table, header = parquet.read(out, Header[CoreFacts], CORE)
    assert table.num_rows == 0 and (header.stage, header.backend) == ("core", "fused")
    assert isinstance(header.outcome, Unavailable) and header.device == ON_CPU.device
    assert header.outcome.reason == "no CUDA device is visible"


def test_memory_is_that_of_the_largest_shape() -> None:
    """Two branches' caches, and one to compare with."""
    caches = 32 * 4 * 65536 * (192 + 128) * 2
    assert 3 * caches <= memory_bytes(CoreSettings(), "cuda") <= 5 * caches
