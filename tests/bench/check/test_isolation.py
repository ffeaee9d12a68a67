"""The kernel check of a candidate in a process of its own: a right one passes, one that attacks harms itself only."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from bench.check.simulated import SHAPES, SMALL, judged, timed
from standins import ON_CPU, ON_CUDA

from nsa.bench.apart import burst, peer, process, wire
from nsa.bench.apart.process import CandidateProcess
from nsa.bench.apart.worker import replicate
from nsa.bench.check.job import Job
from nsa.bench.check.stage import check
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn, run_together
from nsa.errors import InputError, KernelFailed, KernelHung, Killed, NoSharedMemory
from nsa.kernels.failures import BackendBroken
from nsa.machine.host import Host
from nsa.records.facts import CheckFacts
from nsa.records.outcome import Failed, Ok
from nsa.records.words import CONTROLS
from nsa.report.verdict.isolation import BURST_EXCESS, excess

HOSTILE = "bench.check.hostile"
ONE = SMALL.model_copy(update={"value_dim": (32,)})
SPAWN = process.START
DIED = r"^cuda: its process died while it ran \(exit status {}\)$"


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate's process is forked: an interpreter takes seconds to import torch, and attacks as a fork does."""
    monkeypatch.setattr(process, "START", "fork")


def apart(
    monkeypatch: pytest.MonkeyPatch, entry: str, host: Host = ON_CPU, settings: object = ONE, number: int = 0
) -> Replicated[CheckFacts]:
    """What a replicate finds of one of the hostile module's backends; this process is the judge."""
    monkeypatch.setattr(peer, "ENTRY", f"{HOSTILE}:{entry}")
    monkeypatch.setattr(burst, "MOST_REPLAYS", 20)
    monkeypatch.setattr(burst, "MOST_QUERIES", 20)
    turn = Turn()
    found = replicate(Job("cuda", settings, host, number, apart=True), turn)
    (pid,) = turn.helpers
    assert not psutil.pid_exists(pid)  # known to the parent, and ended with the check
    assert HOSTILE not in sys.modules  # what judges has imported nothing of the candidate's
    return found


def faults(found: Replicated[CheckFacts]) -> set[object]:
    """What is wrong with the candidate; no variant has a fault."""
    assert all(row["fault"] is None for row in judged(found.rows) if row["backend"] != "cuda")
    return {row["fault"] for row in judged(found.rows) if row["backend"] == "cuda"} - {None}


def errors(found: Replicated[CheckFacts], backend: str = "cuda") -> list[float]:
    """The errors of a kernel's outputs."""
    return [row["oracle_error"] for row in judged(found.rows) if row["backend"] == backend]


@pytest.mark.parametrize("host", [ON_CPU, ON_CUDA], ids=["on a CPU", "timed"])
def test_a_right_kernel_is_right_in_a_process_of_its_own(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the rows, errors and notes that it has in the judge's process, and as many times."""
    found = apart(monkeypatch, "right", host, SMALL)
    assert faults(found) == set() and max(errors(found)) < 1e-5
    assert sum(row.get("judged") == SMALL.iters + 1 for row in judged(found.rows)) == 3 * SHAPES
    assert found.facts.notes == ({"way": "packed"},) and found.facts.switched == ()
    if host is ON_CPU:
        assert timed(found.rows) == [] and found.facts.bursts == found.facts.baseline_alone == ()
        return
    here = replicate(Job("sdpa", SMALL, host, 0, packs=True), Turn())
    assert len(timed(found.rows)) == len(timed(here.rows))
    kernels = {"cuda", "again:cuda", "sdpa:gather", "sdpa:index_select"}
    assert {row["backend"] for row in timed(found.rows)} == kernels | set(CONTROLS)
    blocks: dict[tuple[object, ...], list[object]] = {}
    for row in timed(found.rows):
        if row.get("block") is not None:
            blocks.setdefault((row["value_dim"], row["block"], row["order"]), []).append(row["backend"])
    assert all(len(set(names)) == 1 for names in blocks.values())  # one kernel at each place of a block
    assert {place for _, _, place in blocks} == set(range(len(kernels) + len(CONTROLS)))
    alone = [(each.backend, each.shape.value_dim) for each in found.facts.baseline_alone]
    assert sorted(alone) == [(name, Dv) for name in ("sdpa:gather", "sdpa:index_select") for Dv in (32, 64)]
    assert [burst.shape.value_dim for burst in found.facts.bursts] == [32, 32, 64, 64]


def test_the_candidates_interpreter_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the judge's is in it, as would be in a fork."""
    (left,) = apart(monkeypatch, "looks_around").facts.notes
    assert str(left).endswith("check.test_isolation")
    monkeypatch.setattr(process, "START", SPAWN)
    assert apart(monkeypatch, "looks_around").facts.notes == ()


def test_a_candidate_that_patches_the_judging_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are those of zeros, and packed SDPA's are its own."""
    found = apart(monkeypatch, "patches_the_judges_functions")
    assert min(errors(found)) > 0.9 and max(errors(found, "sdpa:gather")) < 1e-5


def test_a_candidate_that_patches_the_records_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the stage's own processes: the judge is one of them, the candidate another, and the outcome is whole."""
    monkeypatch.setattr(peer, "ENTRY", f"{HOSTILE}:patches_the_records")
    monkeypatch.setattr("nsa.kernels.registry.require", lambda *_: None)
    result = check("cuda", ONE, ON_CPU, print, apart=True)
    assert isinstance(result.outcome, Ok)
    assert min(row["oracle_error"] for row in result.rows if row["backend"] == "cuda" and row.get("case") is None) > 0.9


def test_a_candidate_that_patches_its_clock_contradicts_the_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its replays take a nanosecond each by its own account, and more by far by the judge's clock."""
    found = apart(monkeypatch, "patches_the_clock", ON_CUDA)
    assert {row["value_ns"] for row in timed(found.rows) if row["backend"] == "cuda"} == {1}
    assert all(excess(burst) > 100 * BURST_EXCESS for burst in found.facts.bursts)


def test_a_burst_that_computes_nothing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An output of the replays without a pause is judged as those of the timed ones are."""
    found = apart(monkeypatch, "skips_the_burst", ON_CUDA)
    assert faults(found) == set() and sum(error > 0.9 for error in errors(found)) == 2


def test_torchs_switches_are_the_candidates_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the judge stay, and are recorded; what the candidate changed at import or in a call is told."""
    found = apart(monkeypatch, "switches_torch")
    assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cuda.flash_sdp_enabled()
    assert found.facts.switches is not None and not found.facts.switches.deterministic_algorithms
    assert found.facts.switched == (
        "deterministic_algorithms: False before, True after",
        "sdpa_backends: ('flash', 'mem_efficient', 'math', 'cudnn') before, ('math', 'cudnn') after",
    )


@pytest.mark.parametrize(
    ("entry", "expected", "message"),
    [
        ("exits", KernelFailed, DIED.format(7)),
        ("dies", KernelFailed, DIED.format(9)),
        ("meta", BackendBroken, r"^cuda: it returned .* on meta, expected a dense tensor on cpu$"),
        ("answers_nonsense", KernelFailed, r"^cuda: its process gave an answer that is none$"),
        ("fickle", KernelFailed, r"^cuda: it refuses a call after it took one of this shape: no more$"),
        ("raises_its_own", InputError, r"^not today$"),
    ],
)
def test_a_candidate_that_fails_is_named(
    entry: str, expected: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How its process died, or what it said that is none of an answer; no class of its own reaches the judge."""
    with pytest.raises(expected) as caught:
        apart(monkeypatch, entry)
    assert type(caught.value) is expected and re.match(message, str(caught.value))
    assert HOSTILE not in sys.modules


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ("short", "the output is (2, 1, 2, 32) torch.float32, expected (2, 2, 2, 32) torch.float32"),
        ("double", "the output is (2, 2, 2, 32) torch.float64, expected (2, 2, 2, 32) torch.float32"),
        ("mutates", "the input v was changed"),
    ],
)
@pytest.mark.parametrize("host", [ON_CPU, ON_CUDA], ids=["on a CPU", "timed"])
def test_an_output_that_is_none_and_an_input_that_is_changed_are_faults(
    host: Host, entry: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in one process, and packed SDPA, whose inputs are the judge's, has none."""
    assert fault in faults(apart(monkeypatch, entry, host))


def test_inputs_that_are_changed_when_it_is_timed_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge compares what the candidate had with its own copies after the timing; packed SDPA had the latter."""
    found = apart(monkeypatch, "shortens", number=1)
    assert faults(found) == {"the input seq_lens was changed"} and max(errors(found, "sdpa:gather")) < 1e-5


@pytest.mark.parametrize("entry", ["static", "spoils"])
def test_an_output_is_the_judges_once_it_has_it(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the candidate does to it later changes no judgement."""
    found = apart(monkeypatch, entry)
    assert faults(found) == set() and max(errors(found)) < 1e-5


def hung(told: Path, turn: Turn) -> None:
    """A judge that waits for a candidate that never answers."""
    with pytest.MonkeyPatch.context() as patch:
        told.write_text("")
        start = CandidateProcess.__enter__

        def enter(candidate: CandidateProcess) -> CandidateProcess:
            told.write_text(str(candidate.pid))
            return start(candidate)

        patch.setattr(CandidateProcess, "__enter__", enter)
        apart(patch, "hangs")


def test_a_candidate_that_never_answers_is_killed_with_its_judge(tmp_path: Path) -> None:
    """The judge has its time and no more, and the candidate dies with it."""
    with pytest.raises(KernelHung, match=r"^it did not end within 6 s and was killed$"):
        run_together(f"{__name__}:hung", [tmp_path / "pid"], 6.0, True, lambda pids: pids)
    pid, until = int((tmp_path / "pid").read_text()), time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until
        time.sleep(0.05)


def says_its_candidate(_: object, turn: Turn) -> frozenset[int]:
    """The pids that a judge gives its parent, beside what the parent knows in its turn."""
    with CandidateProcess("cuda", Job.server) as candidate:
        turn.helpers = frozenset({candidate.pid})
        with turn:
            return turn.ours if candidate.pid in turn.ours else frozenset()


def test_the_candidates_process_is_one_of_the_runs_own() -> None:
    """It is no stranger on the GPU: the parent counts it with its judge, which says its number."""
    (ours,) = run_together(f"{__name__}:says_its_candidate", [None], 60.0, True, lambda pids: pids)
    assert len(ours) == 2


def test_a_candidate_that_is_killed_from_outside_leaves_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user, a scheduler or a full memory is no fault of the kernel's."""
    with CandidateProcess("cuda", Job.server) as candidate:
        psutil.Process(candidate.pid).kill()
        with pytest.raises(Killed, match=r"^the candidate's process was killed from outside \(SIGKILL\); run again$"):
            candidate.ask(wire.Ping())


class Unopened:
    """Memory whose handle opens nothing in the other process."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.listdir, ("/no such folder",)


class Unsent:
    """Memory that has no handle."""

    def __reduce__(self) -> tuple[object, ...]:
        raise RuntimeError("CUDA error: invalid resource handle\nmore")


@pytest.mark.parametrize(
    ("memory", "why"), [(Unopened(), "FileNotFoundError: "), (Unsent(), r"CUDA error: invalid resource handle\)")]
)
def test_memory_that_cannot_be_shared_is_no_kernels_failure(memory: Any, why: str) -> None:
    """One line says what the machine does not give, and the candidate is not blamed."""
    with CandidateProcess("cuda", Job.server) as candidate:
        candidate.ready()
        with pytest.raises(NoSharedMemory) as caught:
            candidate.ask(wire.Segment(0, memory))
        assert re.match(rf"the judge's memory cannot be seen .*\({why}.*sandbox$", str(caught.value))


def test_a_failure_is_an_outcome_of_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate whose process dies is recorded as failed, with how."""
    monkeypatch.setattr(peer, "ENTRY", f"{HOSTILE}:dies")
    monkeypatch.setattr("nsa.kernels.registry.require", lambda *_: None)
    outcome = check("cuda", ONE, ON_CPU, print, apart=True).outcome
    assert isinstance(outcome, Failed)
    assert outcome.reason == "cuda: its process died while it ran (exit status 9)"
