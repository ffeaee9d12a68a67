"""The core check of a core in a process of its own: a right one passes, one that attacks harms itself only."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench.core.test_replicate import FEW, SMALL
from standins import ON_CPU, ON_CUDA, Sampler, Timer
from synthetic import ABOUT, STAMP
from wrong_core_attacks import CORE_ATTACKS

from nsa.bench.apart import burst, peer, process
from nsa.bench.apart.worker import replicate
from nsa.bench.core import replicate as module
from nsa.bench.core.corner_cases import CORNERS
from nsa.bench.core.job import Job
from nsa.bench.core.stage import check
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import DtypeByDevice, Flags, GateSettings
from nsa.errors import KernelFailed
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records import parquet, schemas
from nsa.records.facts import CoreFacts
from nsa.records.outcome import Header, Ok
from nsa.report.analysis.core import read_core
from nsa.report.verdict.cores import CoreAccept, accept_core
from nsa.report.verdict.isolation import clocks_disagree

ATTACKS = "wrong_core_attacks"
TIMED = SMALL.model_copy(
    update={
        "batch": (2,),
        "contexts": (420,),
        "dtype": DtypeByDevice(cuda="float32", cpu="float32"),
        "iters": 4,
        "processes": 1,
    }
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Few corner cases and short bursts; a CPU stands in for a GPU, but in tests on one."""
    monkeypatch.setattr("nsa.bench.core.corners.CORNERS", {name: CORNERS[name] for name in FEW[:3]})
    if not request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(process, "START", "fork")  # a new interpreter takes seconds to import torch
        monkeypatch.setattr(burst, "MOST_REPLAYS", 20)
        monkeypatch.setattr(burst, "MOST_QUERIES", 20)
        monkeypatch.setattr(module, "CudaTimer", Timer)
        monkeypatch.setattr(module, "Sampler", Sampler)
        monkeypatch.setattr(module, "bandwidths", lambda device: (4e12, 3.8e12))


@dataclass(frozen=True)
class Found:
    """What a replicate found, what the verdict on it is, and whether the two clocks disagree."""

    replicated: Replicated[CoreFacts]
    verdict: CoreAccept
    disagree: bool


def apart(entry: str, host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Found:
    """The core check of an entry point's core; this process is the judge."""
    monkeypatch.setattr(peer, "ENTRY", entry)
    turn, settings = Turn(), SMALL if host is ON_CPU else TIMED
    found = replicate(Job("mine", settings, host, 0, apart=True, corners=5), turn)
    (pid,) = turn.helpers
    assert not psutil.pid_exists(pid)  # known to the parent, and ended with the check
    header = Header[CoreFacts](
        stage="core", backend="mine", device=host.device, outcome=Ok(facts=found.facts), provenance=ABOUT, stamp=STAMP
    )
    parquet.write(folder / "mine.parquet", found.rows, schemas.CORE, header)
    record = read_core(folder / "mine.parquet")
    verdict = accept_core("mine", record, (), settings, GateSettings())
    return Found(found, verdict, host is not ON_CPU and clocks_disagree(record).fired)


@pytest.mark.parametrize("host", [ON_CPU, ON_CUDA], ids=["on a CPU", "timed"])
def test_a_right_core_is_right_in_a_process_of_its_own(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every output is right, notes come over, and where it is timed every repetition is there and was judged."""
    found = apart("bench.core.right:load", host, tmp_path, monkeypatch)
    assert found.replicated.facts.notes == ("composed",)
    assert "bench.core.right" not in sys.modules  # what judges has imported nothing of the candidate's
    rows = found.replicated.rows
    assert all(row.get("fault") is None for row in rows) and found.replicated.facts.switched == ()
    timed = [row for row in rows if row.get("value_ns") is not None and row["backend"] in ("mine", "again:mine")]
    assert len(timed) == (0 if host is ON_CPU else 2 * TIMED.iters)
    (judged,) = (row for row in rows if row["backend"] == "mine" and row.get("case") == "timed")
    assert judged["judged"] == (3 if host is ON_CPU else TIMED.iters)
    assert [each.queries for each in found.replicated.facts.bursts] == ([] if host is ON_CPU else [1, 20])


def assert_rejected(name: str, host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attack is rejected by the check that is meant to, and with its words."""
    attack = CORE_ATTACKS[name]
    try:
        found = apart(attack.entry, host, folder, monkeypatch)
    except KernelFailed as failure:
        assert attack.check == "runs" and re.search(attack.because, str(failure)), failure
        return
    assert attack.check != "runs", "it should have failed"
    if attack.check == "clocks_disagree":
        assert found.disagree and all(row.get("fault") is None for row in found.replicated.rows)
    else:
        assert found.verdict.verdict == "REJECT" and re.search(attack.because, found.verdict.reason), found.verdict
    composed = [row for row in found.replicated.rows if row["backend"] == "composed" and "error" in row]
    assert composed and all(row.get("fault") is None for row in composed)  # what is beside it is right


@pytest.mark.parametrize("name", [name for name, attack in CORE_ATTACKS.items() if attack.on != "cuda"])
def test_an_attack_is_judged_from_another_process(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs are found wrong, its times contradict the judge's, or it fails."""
    timed = CORE_ATTACKS[name].check in ("clocks_disagree", "timed verdict")
    assert_rejected(name, ON_CUDA if timed else ON_CPU, tmp_path, monkeypatch)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, attack in CORE_ATTACKS.items() if attack.on == "cuda"])
def test_an_attack_on_the_times_is_seen_by_the_judge(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks and streams of its own process change nothing of what decides."""
    assert_rejected(name, Host.of("cuda", Flags(), probe(), {}), tmp_path, monkeypatch)


def test_a_failure_is_an_outcome_of_the_stage_with_processes_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Through the stage: the judge is one process, the core's another, and how that died is the outcome."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(peer, "ENTRY", CORE_ATTACKS["ends its process"].entry)
    monkeypatch.setattr("nsa.kernels.registry.require", lambda *_: None)
    outcome: Any = check("fused", SMALL, ON_CPU, print, apart=True).outcome
    assert outcome.status == "failed" and outcome.reason == "fused: its process died while it ran (exit status 0)"


def test_torchs_switches_are_the_cores_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the core changed for its process is told, and nothing of it reaches the judge."""
    found = apart("bench.core.right:switches_torch", ON_CPU, tmp_path, monkeypatch)
    assert found.verdict.wrong_shapes == []
    assert found.replicated.facts.switched == ("deterministic_algorithms: False before, True after",)
    assert found.replicated.facts.switches is not None
    assert not found.replicated.facts.switches.deterministic_algorithms
