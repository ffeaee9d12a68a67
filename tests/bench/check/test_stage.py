"""The kernel check's stage: what it starts, and the record that it writes whatever comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from standins import DIGESTS, ON_CPU, ON_CUDA, in_this_process, stage_inputs

from nsa.bench.check.stage import check, memory_bytes, run
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice, Flags
from nsa.errors import KernelFailed
from nsa.kernels import registry
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records import parquet
from nsa.records.facts import CheckFacts, LeftOut, Replicate
from nsa.records.outcome import Failed, Header, Ok, Unavailable
from nsa.records.schemas import CHECK_REPETITIONS

SMALL = CheckSettings(
    heads_per_group=(2,), head_dim=(32,), value_dim=(32,), sel_count=(4,), seeds=2, cpu_rows=8, cpu_context=300
)


def found(process: int, **changes: Any) -> Replicated[CheckFacts]:
    """What a process on a GPU might find."""
    facts = CheckFacts(
        device=ON_CUDA.device,
        flush="write 256 MiB",
        bandwidth_bytes_per_s=(4e12 + process,),
        read_bandwidth_bytes_per_s=(3.8e12,),
        replicates=(
            Replicate(
                process=process,
                duration_s=1.0,
                sm_clock_min_mhz=1980 - process,
                sm_clock_max_mhz=1980,
                throttle_bits=0,
                sm_clock_start_mhz=1980,
                waited_clock_s=0.0,
            ),
        ),
        other_processes=(),
        notes=(),
        dtype="bfloat16",
        left_out=(LeftOut(name="sdpa:varlen", shape="a", reason="it refuses"),),
    )
    return Replicated([{"backend": "cuda", "process": process}], facts.model_copy(update=changes))


def test_on_a_cpu_one_process_checks_and_the_record_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command reads its stamp, checks the grid and writes rows and header of the schema."""
    jobs = in_this_process(monkeypatch)
    stamp, environment = stage_inputs(tmp_path, "check/sdpa", {"check": SMALL.model_dump(mode="json")})
    run("sdpa", stamp, environment, (), tmp_path / "check_sdpa.parquet")
    table, header = parquet.read(tmp_path / "check_sdpa.parquet", Header[CheckFacts], CHECK_REPETITIONS)
    assert len(jobs) == 1 and (header.stage, header.backend, header.S) == ("check", "sdpa", None)
    assert header.stamp == DIGESTS and header.device == ON_CPU.device
    assert isinstance(header.outcome, Ok) and header.outcome.facts.dtype == "float32"
    rows = [row for row in table.to_pylist() if row["case"] is None]
    assert {row["backend"] for row in rows} >= {"sdpa", "sdpa:gather"} and len(rows) % 3 == 0
    assert all(row["fault"] is None and row["value_ns"] is None for row in rows)


def test_on_a_gpu_every_process_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process has its number and its card, and facts are merged: left out once, bandwidth and clocks each."""
    jobs = in_this_process(monkeypatch, lambda job, turn: found(job.process))
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    result = check("cuda", SMALL, ON_CUDA, print, seed=3)
    assert [(job.process, job.of, job.seed, job.host) for job in jobs] == [(p, 3, 3, ON_CUDA) for p in range(3)]
    assert isinstance(result.outcome, Ok) and [row["process"] for row in result.rows] == [0, 1, 2]
    facts = result.outcome.facts
    assert facts.bandwidth_bytes_per_s == (4e12, 4e12 + 1, 4e12 + 2)
    assert [replicate.sm_clock_min_mhz for replicate in facts.replicates] == [1980, 1979, 1978]
    assert [left.name for left in facts.left_out] == ["sdpa:varlen"]


def test_processes_that_flushed_otherwise_are_no_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is part of what was timed is the same in each."""
    in_this_process(monkeypatch, lambda job, turn: found(job.process, flush="none" if job.process else "write 256 MiB"))
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    outcome = check("cuda", SMALL, ON_CUDA, print).outcome
    assert isinstance(outcome, Failed)
    assert outcome.reason == "the replicates disagree on flush: 'write 256 MiB' in process 1, 'none' in process 2"


def test_a_check_that_fails_is_an_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure in any process is recorded with the log's place, and no row is."""

    def second_fails(job: Any, turn: Turn) -> Replicated[CheckFacts]:
        if job.process == 1:
            raise KernelFailed("cuda: RuntimeError: no kernel image")
        return found(job.process)

    in_this_process(monkeypatch, second_fails)
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    result = check("cuda", SMALL, ON_CUDA, print)
    assert isinstance(result.outcome, Failed) and result.rows == ()
    assert result.outcome.reason == "cuda: RuntimeError: no kernel image"
    assert result.outcome.fix.startswith("see results/logs/check_cuda.log")


def test_a_backend_that_cannot_run_here_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed SDPA is not checked in its place."""
    jobs = in_this_process(monkeypatch)
    result = check("fa2", SMALL, ON_CPU, print)
    assert isinstance(result.outcome, Unavailable) and result.outcome.fix and not jobs and result.rows == ()


def test_memory_grows_with_what_is_held() -> None:
    """The estimate by which waves are made covers the caches of the largest shape in the device's dtype."""
    caches = 1024 * 4096 * (128 + 128) * 2
    assert 2 * caches < memory_bytes(CheckSettings(), "cuda") < 8 * caches
    assert memory_bytes(CheckSettings(dtype=DtypeByDevice(cuda="float32", cpu="float32")), "cuda") == 2 * memory_bytes(
        CheckSettings(), "cuda"
    )


@pytest.mark.gpu
def test_a_check_on_a_gpu_times_and_judges() -> None:
    """Packed SDPA is right, every variant competes, and its A/A control is timed as often as it is."""
    settings = CheckSettings(
        rows=(256,),
        heads_per_group=(4,),
        head_dim=(64,),
        value_dim=(64,),
        sel_count=(8,),
        seeds=2,
        iters=5,
        processes=2,
    )
    result = check("sdpa", settings, Host.of("cuda", Flags(), probe(), {}), print)
    assert isinstance(result.outcome, Ok)
    times = {
        name: [row["value_ns"] for row in result.rows if row["backend"] == name and row.get("value_ns") is not None]
        for name in ("sdpa", "again:sdpa", "sdpa:gather", "sdpa:index_select", "sdpa:blocks", "sdpa:varlen")
    }
    assert {name: len(own) for name, own in times.items()} == dict.fromkeys(times, 2 * 6)
    assert all(row["fault"] is None for row in result.rows if row.get("seed") is not None)
    facts = result.outcome.facts
    assert len(facts.bandwidth_bytes_per_s) == len(facts.replicates) == 2 and facts.other_processes == ()
    assert [burst.process for burst in facts.bursts] == [0, 0, 1, 1] and facts.switched == ()
    assert {(alone.process, alone.backend) for alone in facts.baseline_alone} == {
        (process, name) for process in (0, 1) for name in times if name.startswith("sdpa:")
    }
