"""The roofline stage: what takes part, and a status with its reason for what does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nsa.bench.roofline import stage as roofline
from nsa.bench.roofline.replicate import Job, Outcome, replicate
from nsa.config import Flags, RooflineSettings
from nsa.errors import BackendUnavailable, KernelFailed
from nsa.kernels import registry
from nsa.machine.environment import probe
from nsa.machine.host import Host, Machine
from nsa.records import parquet, schemas

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
ON_CUDA = Host("cuda", "NVIDIA Synthetic", "GPU-of-a-test", Machine((9, 0)), Flags())


def staged(monkeypatch: pytest.MonkeyPatch, broken: dict[str, Exception | Outcome]) -> list[Job]:
    """Stand in for the processes: what races together with a broken backend ends as that one does."""
    jobs: list[Job] = []

    def fresh(function: object, job: Job, timeout_s: float) -> Outcome:
        assert function is replicate and timeout_s == SMALL.timeout_s
        jobs.append(job)
        for name in job.backends:
            if isinstance(outcome := broken.get(name), Exception):
                raise outcome
            if outcome is not None:
                return outcome
        return Outcome([{"backend": name, "process": job.process} for name in job.backends], (4e12, 4.1e12), (7,))

    monkeypatch.setattr(roofline, "in_fresh_process", fresh)
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    return jobs


def test_what_cannot_run_is_a_status_and_the_others_race_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if one broken backend takes the table with it, or is left out without a word."""
    broken: dict[str, Exception | Outcome] = {
        "triton": KernelFailed("CUDA error: an illegal memory access"),
        "fa2": BackendUnavailable("fa2", "it does not load", "install it"),
    }
    jobs = staged(monkeypatch, broken)
    rows, facts = roofline.measure(SMALL, ("sdpa", "cuda", "triton", "fa2"), ON_CUDA, lambda line: None)
    assert facts["status"] == "ok"
    assert {name: state["status"] for name, state in facts["backends"].items()} == {
        "sdpa": "ok",
        "cuda": "ok",
        "triton": "failed",
        "fa2": "unavailable",
    }
    assert facts["backends"]["triton"]["reason"] == "CUDA error: an illegal memory access"
    assert facts["backends"]["fa2"] == {"status": "unavailable", "reason": "it does not load", "fix": "install it"}
    rehearsals, races = jobs[:4], jobs[4:]
    assert [job.backends for job in rehearsals] == [("sdpa",), ("sdpa", "cuda"), ("sdpa", "triton"), ("sdpa", "fa2")]
    assert {job.settings.iters for job in rehearsals} == {1}
    assert [(job.backends, job.process, job.settings) for job in races] == [
        (("sdpa", "cuda"), p, SMALL) for p in (0, 1)
    ]
    assert facts["bandwidth_bytes_per_s"] == [(4e12, 4.1e12)] * 2 and facts["other_processes"] == [7]
    assert len(rows) == 4


def test_a_backend_that_the_machine_lacks_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a guarded backend is run all the same."""
    jobs = staged(monkeypatch, {})

    def require(name: str, machine: Machine, flags: Flags) -> None:
        if name == "cuda":
            raise BackendUnavailable("cuda", "its extension has not been built", "build it")

    monkeypatch.setattr(registry, "require", require)
    _, facts = roofline.measure(SMALL, ("cuda",), ON_CUDA, lambda line: None)
    assert facts["backends"]["cuda"]["status"] == "unavailable" and facts["status"] == "ok"
    assert all("cuda" not in job.backends for job in jobs)


@pytest.mark.parametrize(
    ("broken", "status", "reason"),
    [
        (
            {"sdpa": KernelFailed("no kernel image")},
            "failed",
            "packed SDPA, the reference, does not run: no kernel image",
        ),
        (
            {"sdpa": Outcome(error="CUDA out of memory.")},
            "oom",
            "packed SDPA, the reference, does not run: CUDA out of",
        ),
    ],
)
def test_without_the_reference_nothing_is_measured(
    broken: dict[str, Exception | Outcome], status: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if times are recorded that nothing can be compared with."""
    staged(monkeypatch, broken)
    rows, facts = roofline.measure(SMALL, ("cuda",), ON_CUDA, lambda line: None)
    assert rows == [] and facts["status"] == status and facts["reason"].startswith(reason) and facts["fix"]


def test_a_race_that_fails_is_no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the table is made of the processes that happened to end well."""
    jobs = staged(monkeypatch, {})
    whole = roofline.in_fresh_process

    def second_fails(function: Any, job: Job, timeout_s: float) -> Outcome:
        if job.settings.iters > 1 and job.process == 1:
            return Outcome(error="CUDA out of memory.")
        found: Outcome = whole(function, job, timeout_s)
        return found

    monkeypatch.setattr(roofline, "in_fresh_process", second_fails)
    rows, facts = roofline.measure(SMALL, (), ON_CUDA, lambda line: None)
    assert jobs and rows == []
    assert (facts["status"], facts["reason"]) == ("oom", "CUDA out of memory.") and "roofline.rows" in facts["fix"]


def test_without_a_gpu_the_record_says_so_and_needs_no_torch(tmp_path: Path) -> None:
    """Breaks if a laptop waits for torch to learn that it measures nothing, or gets no record."""
    out = tmp_path / "roofline.parquet"
    program = (
        "import sys; from pathlib import Path; from nsa.records import parquet, schemas; from nsa.bench.roofline import stage as roofline;"
        "from nsa.config import *; from nsa.machine.host import Host, Machine;"
        "host = Host('cpu', 'a CPU', None, Machine(None), Flags());"
        "rows, facts = roofline.measure(RooflineSettings(), ('sdpa', 'cuda'), host, print);"
        f"parquet.write(Path({str(out)!r}), rows, schemas.ROOFLINE, facts);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    table, facts = parquet.read(out, schemas.ROOFLINE)
    assert table.num_rows == 0
    assert (facts["status"], facts["reason"]) == ("unavailable", "there is no CUDA device to time on")


@pytest.mark.gpu
def test_two_shapes_on_a_gpu() -> None:
    """Breaks if a shape cannot be captured beside another, or a time is below what the memory allows."""
    host = Host.of("cuda", Flags(), probe(), {})
    settings = RooflineSettings(
        rows=(4, 64), heads_per_group=(4,), head_dim=(64,), sel_count=(8,), iters=5, processes=1
    )
    rows, facts = roofline.measure(settings, ("sdpa", "fa2"), host, print)
    assert facts["status"] == "ok" and len(facts["bandwidth_bytes_per_s"]) == 1
    (before, after) = facts["bandwidth_bytes_per_s"][0]
    assert min(before, after) > 1e11 and abs(before / after - 1) < 0.2
    ran = [name for name, state in facts["backends"].items() if state["status"] == "ok"]
    for name in ran:
        own = [row for row in rows if row["backend"] == name]
        times = [row["value_ns"] for row in own if row.get("value_ns") is not None]
        assert len(times) == 2 * 6 and min(times) > 1e9 * min(row["selected_bytes"] for row in own) / before
        judged = [row for row in own if row.get("oracle_error") is not None]
        assert len(judged) == 2 and all(row["fault"] is None and row["oracle_error"] < 2e-2 for row in judged)
    empty = [row["value_ns"] for row in rows if row["backend"] == "empty"]
    assert len(empty) == 5 and 0 < min(empty) < 50_000
