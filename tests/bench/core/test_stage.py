"""The core check's stage: what it asks for, and its record without a GPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from standins import ON_CPU, ON_CUDA, in_this_process, stage_inputs

from nsa.attention.composition import compose
from nsa.bench.apart.worker import replicate
from nsa.bench.core.corner_cases import CORNERS
from nsa.bench.core.job import Job
from nsa.bench.core.stage import check, memory_bytes, run
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CoreSettings, Flags
from nsa.errors import KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records import parquet
from nsa.records.facts import CoreFacts
from nsa.records.outcome import Failed, Header, Ok, Unavailable
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


def test_a_core_that_runs_on_a_cpu_is_judged_there(anywhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend's own core is loaded by its name, nothing is timed, and its notes are in the record."""
    mine = Backend("mine", core=compose(gather), notes=lambda: ["composed"])
    monkeypatch.setattr(registry, "load", lambda name, machine, flags: mine)
    monkeypatch.setattr("nsa.bench.core.corners.CORNERS", {"h = 1": CORNERS["h = 1"]})
    in_this_process(monkeypatch)
    small = CoreSettings(
        head_dim=(32,), value_dim=32, groups=1, heads_per_group=2, sel_count=4, window=50, cpu_batch=1, cpu_context=300
    )
    result = check("mine", small, ON_CPU, print)
    assert isinstance(result.outcome, Ok)
    facts = result.outcome.facts
    assert (facts.contract, facts.grid, facts.dtype, facts.flush) == ("core", "paper", "float32", "none")
    assert facts.notes == ("composed",) and facts.left_out == () and facts.bandwidth_bytes_per_s == ()
    judged = [(row["backend"], row["case"]) for row in result.rows]
    unseen = [("mine", "unseen"), ("composed", "unseen")] * small.draws
    assert judged[: len(unseen)] == unseen and judged[-1] == ("mine", "h = 1")
    assert set(judged[len(unseen) : -1]) == {("mine", "timed"), ("composed", "timed")}
    assert all(row["fault"] is None and "value_ns" not in row for row in result.rows)


@pytest.mark.gpu
def test_the_composed_core_on_a_gpu(anywhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured, timed beside dense attention in turns, and right: every repetition is there and judged."""
    mine = Backend("mine", core=compose(gather))
    monkeypatch.setattr(registry, "load", lambda name, machine, flags: mine)
    host = Host.of("cuda", Flags(), probe(), {})
    small = CoreSettings(batch=(2,), contexts=(2048,), head_dim=(128,), iters=5)
    found = replicate(Job("mine", small, host, 0, corners=1), Turn())
    counts = Counter(row["backend"] for row in found.rows if row.get("value_ns") is not None)
    assert counts["mine"] == counts["again:mine"] == counts["composed"] == counts["dense:flash"] == 5
    assert all(row.get("fault") is None for row in found.rows)
    (copied,) = found.facts.bandwidth_bytes_per_s
    times = [row for row in found.rows if row["backend"] == "mine" and row.get("value_ns") is not None]
    assert all(row["value_ns"] > 0.9 * row["floor_bytes"] / copied * 1e9 for row in times)


def test_memory_is_that_of_the_largest_shape() -> None:
    """Two branches' caches, their copies in the candidate's memory, and room to compare."""
    caches = 32 * 4 * 65536 * (192 + 128) * 2
    assert 4 * caches <= memory_bytes(CoreSettings(), "cuda") <= 6 * caches
