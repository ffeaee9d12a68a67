"""The roofline stage: what takes part, and a state with its reason for what does not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from standins import ON_CPU, ON_CUDA, in_this_process, stage_inputs

from nsa.bench.roofline.job import Job
from nsa.bench.roofline.stage import measure, memory_bytes
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import Flags, RooflineSettings
from nsa.errors import BackendUnavailable, KernelFailed, NoMemory
from nsa.kernels import registry
from nsa.machine.environment import probe
from nsa.machine.host import Host, Machine
from nsa.records import parquet
from nsa.records.facts import Replicate, RooflineFacts, State
from nsa.records.outcome import Failed, Header, Ok, OutOfMemory, Unavailable
from nsa.records.schemas import ROOFLINE

SMALL = RooflineSettings(
    rows=(4, 8),
    heads_per_group=(2, 4),
    head_dim=(32,),
    sel_count=(2, 3),
    sel_block=16,
    context=60,
    dtype="float32",
    iters=4,
    processes=2,
)


def staged(
    monkeypatch: pytest.MonkeyPatch, broken: Mapping[str, Exception], second: Exception | None = None
) -> list[Job]:
    """Stand in for the processes: those in which a broken backend takes part raise its error. Returns their jobs.

    Args:
        monkeypatch: of the test.
        broken: the error of each broken backend.
        second: what the second process of a run raises.
    """

    def work(job: Job, turn: Turn) -> Replicated[RooflineFacts]:
        for name in job.backends:
            if name in broken:
                raise broken[name]
        if job.process == 1 and second is not None:
            raise second
        facts = RooflineFacts(
            device=job.host.device,
            flush="write 256 MiB",
            bandwidth_bytes_per_s=(4e12, 4.1e12),
            read_bandwidth_bytes_per_s=(3.7e12, 3.8e12),
            replicates=(
                Replicate(
                    process=job.process,
                    duration_s=1.0,
                    sm_clock_min_mhz=None,
                    sm_clock_max_mhz=None,
                    throttle_bits=None,
                    sm_clock_start_mhz=None,
                    waited_clock_s=0.0,
                ),
            ),
            other_processes=(7,),
            notes=(),
            backends={},
        )
        return Replicated([{"backend": name, "process": job.process} for name in job.backends], facts)

    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    return in_this_process(monkeypatch, work)


def test_what_fails_is_left_out_with_its_state_and_the_others_are_timed_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each backend is tried in a short run beside packed SDPA; what ends well there is timed, the rest has a reason."""
    broken = {
        "triton": KernelFailed("triton: RuntimeError: an illegal memory access"),
        "fa2": BackendUnavailable("fa2", "it does not load", "install it"),
    }
    jobs = staged(monkeypatch, broken)
    result = measure(SMALL, ("sdpa", "cuda", "triton", "fa2"), ON_CUDA, print)
    assert isinstance(result.outcome, Ok)
    states = result.outcome.facts.backends
    assert {name: state.status for name, state in states.items()} == {
        "sdpa": "ok",
        "cuda": "ok",
        "triton": "failed",
        "fa2": "unavailable",
    }
    assert states["sdpa"] == State(status="ok")
    assert states["triton"].reason == "triton: RuntimeError: an illegal memory access"
    assert states["fa2"] == State(status="unavailable", reason="it does not load", fix="install it")
    tries, timings = jobs[:4], jobs[4:]
    assert [job.backends for job in tries] == [("sdpa",), ("sdpa", "cuda"), ("sdpa", "triton"), ("sdpa", "fa2")]
    assert {job.settings.iters for job in tries} == {1}
    assert [(job.backends, job.process, job.settings) for job in timings] == [
        (("sdpa", "cuda"), process, SMALL) for process in (0, 1)
    ]
    assert result.outcome.facts.bandwidth_bytes_per_s == (4e12, 4.1e12) * 2
    assert result.outcome.facts.other_processes == (7,)
    assert len(result.rows) == 4


def test_a_backend_that_the_machine_lacks_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is given a backend that cannot run here."""
    jobs = staged(monkeypatch, {})

    def require(name: str, machine: Machine, flags: Flags) -> None:
        if name == "cuda":
            raise BackendUnavailable("cuda", "its extension has not been built", "build it")

    monkeypatch.setattr(registry, "require", require)
    outcome = measure(SMALL, ("cuda",), ON_CUDA, print).outcome
    assert isinstance(outcome, Ok) and outcome.facts.backends["cuda"].status == "unavailable"
    assert all("cuda" not in job.backends for job in jobs)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (KernelFailed("no kernel image"), Failed, "packed SDPA, the reference, does not run: no kernel image"),
        (NoMemory("CUDA out of memory."), OutOfMemory, "packed SDPA, the reference, does not run: CUDA out of memory."),
    ],
)
def test_without_the_reference_nothing_is_measured(
    error: Exception, kind: type, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No time is recorded that nothing can be compared with."""
    jobs = staged(monkeypatch, {"sdpa": error})
    result = measure(SMALL, ("cuda",), ON_CUDA, print)
    assert result.rows == () and isinstance(result.outcome, kind) and len(jobs) == 1
    assert result.outcome.reason == reason and result.outcome.fix


def test_a_process_that_fails_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is of all processes, or there is none."""
    jobs = staged(monkeypatch, {}, second=NoMemory("CUDA out of memory."))
    result = measure(SMALL, (), ON_CUDA, print)
    assert [job.process for job in jobs] == [0, 0, 1]  # tried, then timed
    assert result.rows == () and isinstance(result.outcome, OutOfMemory)
    assert result.outcome.reason == "CUDA out of memory." and "roofline.rows" in result.outcome.fix


def test_without_a_gpu_the_record_says_so_and_needs_no_torch(tmp_path: Path) -> None:
    """A laptop's record is made in a moment, with the reason and the fix."""
    settings = {"roofline": RooflineSettings().model_dump(mode="json"), "backends": ["sdpa", "cuda"]}
    stamp, environment = stage_inputs(tmp_path, "roofline", settings)
    out = tmp_path / "roofline.parquet"
    program = (
        "import sys; from pathlib import Path; from nsa.bench.roofline import stage;"
        "stage.run(Path(sys.argv[1]), Path(sys.argv[2]), (), Path(sys.argv[3]));"
        "assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, stamp, environment, out], check=True, capture_output=True)
    table, header = parquet.read(out, Header[RooflineFacts], ROOFLINE)
    assert table.num_rows == 0 and (header.stage, header.backend) == ("roofline", None)
    assert isinstance(header.outcome, Unavailable) and header.device == ON_CPU.device
    assert header.outcome.reason == "there is no CUDA device to time on" and header.outcome.fix


def test_memory_grows_with_what_is_held() -> None:
    """The estimate covers every cache of the table, all of which are there at once."""
    settings = RooflineSettings()
    caches = sum(settings.rows) * settings.context * 2 * sum(settings.head_dim) * 2
    assert caches < memory_bytes(settings) < 8 * caches


@pytest.mark.gpu
def test_two_shapes_on_a_gpu() -> None:
    """Shapes are captured beside each other, and no time is below what the memory allows."""
    host = Host.of("cuda", Flags(), probe(), {})
    settings = RooflineSettings(
        rows=(4, 64), heads_per_group=(4,), head_dim=(64,), sel_count=(8,), iters=5, processes=1
    )
    result = measure(settings, ("sdpa", "fa2"), host, print)
    assert isinstance(result.outcome, Ok)
    facts = result.outcome.facts
    before, after = facts.bandwidth_bytes_per_s
    assert min(before, after) > 1e11 and abs(before / after - 1) < 0.2
    ran = [name for name, state in facts.backends.items() if state.status == "ok"]
    assert "sdpa" in ran
    for name in ran:
        own = [row for row in result.rows if row["backend"] == name]
        times = [row["value_ns"] for row in own if row.get("value_ns") is not None]
        assert len(times) == 2 * 6 and min(times) > 1e9 * min(row["selected_bytes"] for row in own) / before
        judged = [row for row in own if row.get("oracle_error") is not None]
        assert len(judged) == 2 and all(row["fault"] is None and row["oracle_error"] < 2e-2 for row in judged)
    empty = [row["value_ns"] for row in result.rows if row["backend"] == "empty"]
    assert len(empty) == 5 and 0 < min(empty) < 50_000
