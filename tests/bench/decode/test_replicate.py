"""One replicate of a decode cell, on a CPU that stands in for a GPU: what is timed, and what proves it."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import Any, Self

import pytest
import torch
from standins import CPU, ON_CPU, ON_CUDA, Sampler, Timer
from torch.utils._python_dispatch import TorchDispatchMode

from nsa.bench.decode import replicate as module
from nsa.bench.decode.cell import Cell
from nsa.bench.decode.job import Job
from nsa.bench.decode.kept import Kept
from nsa.bench.decode.replicate import replicate
from nsa.bench.method import control
from nsa.bench.method.timing import Captured
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import DecodeSettings
from nsa.kernels import registry
from nsa.kernels.contract import Backend, SelectAttention
from nsa.kernels.core import Core
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.records.decode import DecodeFacts
from nsa.records.schemas import REPETITIONS
from nsa.records.words import ARMS, CONTROLS, EMPTY
from nsa.report.analysis.step_errors import wrong_variants

SETTINGS = DecodeSettings(iters=5, warmup=1, processes=2)
STEPS = 2  # at S, emitting or not, and its neighbour


class OnCpu(Cell):
    """A cell on the CPU, whose replays run on the host and move the lengths there, too."""

    def __init__(
        self,
        settings: DecodeSettings,
        S: int,
        select: SelectAttention | None,
        device: torch.device,
        core: Core | None = None,
    ) -> None:
        super().__init__(settings, S, select, CPU, core)

    def rewind(self, emits: bool) -> None:
        self.restore(emits)


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU in the place of ON_CUDA's GPU, and a backend that notes its calls."""
    routing_fault = module.routing_fault
    monkeypatch.setattr(module, "Cell", OnCpu)
    monkeypatch.setattr(module, "routing_fault", lambda device, router: routing_fault(CPU, router))
    monkeypatch.setattr(module, "CudaTimer", Timer)
    monkeypatch.setattr(module, "Sampler", Sampler)
    monkeypatch.setattr(module, "bandwidths", lambda device: (4e12, 3.8e12))
    monkeypatch.setattr(registry, "load", lambda name, *_: Backend(name, gather, notes=lambda: ["a note"]))


class Reads(TorchDispatchMode):
    """Where the tensors lie that torch's operators take."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.tensors += [given.data_ptr() for given in args if isinstance(given, torch.Tensor)]
        return func(*args, **(kwargs or {}))


def ran(process: int = 0, turn: Turn | None = None) -> Replicated[DecodeFacts]:
    return replicate(Job("cuda", 100, SETTINGS, ON_CUDA, process), turn or Turn())


def test_the_whole_step_with_another_packing_is_timed_in_every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be the fastest, whose figures are the cell's; of its other arm the primary mode is enough."""
    variants = {"gather": gather, "index_select": index_select}
    monkeypatch.setattr(registry, "load", lambda name, *_: Backend(name, gather, variants=variants))
    modes: dict[object, set[object]] = {}
    for row in ran().rows:
        modes.setdefault(row["arm"], set()).add((row["mode"], row["cache_state"]))
    cold, warm, eager = ("graph", "cold"), ("graph", "warm"), ("eager", "warm")
    assert modes["all@index_select"] == modes["all"] == {cold, warm, eager}
    assert modes["sel@index_select"] == {cold} and modes["sel"] == {cold, warm}


def test_a_packing_whose_steps_are_wrong_is_told_from_what_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every packing's timed steps are judged against the float64 step: there is no other comparison."""
    variants = {"gather": gather, "index_select": index_select, "larger": lambda *arguments: 1.1 * gather(*arguments)}
    monkeypatch.setattr(registry, "load", lambda name, *_: Backend(name, gather, variants=variants))
    facts = ran().facts
    assert facts.variants == ("index_select", "larger") and facts.left_out == ()
    wrong = wrong_variants(facts)
    assert list(wrong) == ["larger"] and "off float64" in wrong["larger"]


def test_every_arm_is_timed_cold_and_warm_as_often_as_asked() -> None:
    """Each arm of each step is a graph in both states, beside the empty graph, the control and the eager step."""
    rows = ran().rows
    each = Counter((row["arm"], row["emits"], row["mode"], row["cache_state"]) for row in rows)
    graphs = [(arm, emits, "graph", state) for arm in ARMS for emits in (True, False) for state in ("cold", "warm")]
    empty = [(EMPTY, None, "graph", state) for state in ("cold", "warm")]
    eager = [("all", emits, "eager", "warm") for emits in (True, False)]
    fixed = dict.fromkeys([(name, None, "graph", "cold") for name in CONTROLS], module.BLOCKS * control.REPETITIONS)
    assert each == dict.fromkeys([*graphs, *empty, *eager], SETTINGS.iters) | fixed
    assert all(set(row) <= set(REPETITIONS.names) for row in rows)
    assert {(row["backend_requested"], row["backend_resolved"], row["process"]) for row in rows} == {
        ("cuda", "cuda", 0)
    }


def test_frozen_block_indices_are_in_the_l2_as_those_of_a_step_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """They alone are read behind the flush: the rest of what an arm reads is as cold in a step as in the arm."""
    read: list[tuple[str, bool]] = []
    monkeypatch.setattr(module, "Kept", type("Watched", (Kept,), {"touch": lambda kept: note(kept)}))

    def note(kept: Kept) -> None:
        with Reads() as seen:
            Kept.touch(kept)
        frozen = kept.cell.given[kept.emits]
        assert seen.tensors in ([], [frozen.data_ptr()])
        read.append((kept.name, bool(seen.tensors)))

    ran()
    cold = SETTINGS.iters * STEPS
    assert Counter(read) == {(arm, arm == "sel"): cold for arm in ARMS}


def test_facts_say_how_and_where_it_was_timed() -> None:
    """Geometry, bandwidth, clocks, strangers and notes of the replicate are in its facts."""
    facts = ran().facts
    assert facts.device == ON_CUDA.device and facts.flush == "write 256 MiB, read 256 MiB"
    assert facts.geometry.dtype == SETTINGS.dtype.cuda and facts.geometry.S == 100
    assert facts.bandwidth_bytes_per_s == (4e12,) and facts.read_bandwidth_bytes_per_s == (3.8e12,)
    assert facts.other_processes == (7,) and facts.notes == ("a note",)
    assert facts.replicates[0].sm_clock_min_mhz == 1990 - 10 * 2 * module.BLOCKS  # arms, control
    assert facts.reads.actual == facts.reads.expected and facts.bytes_read > 0
    assert facts.outputs_finite and facts.routing_fault is None


def test_another_process_has_another_order_and_counts_no_launches() -> None:
    """Launches are counted once a cell; all that must agree between processes does."""
    first, second = ran(0), ran(1)
    orders = [[(row["arm"], row["emits"], row["cache_state"]) for row in found.rows] for found in (first, second)]
    assert orders[0] != orders[1] and sorted(map(str, orders[0])) == sorted(map(str, orders[1]))
    assert first.facts.launches is not None and set(first.facts.launches) == set(ARMS)
    assert second.facts.launches is None
    same = {"geometry", "reads", "bytes_read", "emit_weight", "flush", "device"}
    assert first.facts.model_dump(include=same) == second.facts.model_dump(include=same)


def test_what_a_timed_replay_leaves_unwritten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are poisoned before the timed replays, and one that stays so is not finite."""

    class WritesNothing(Timer):
        def capture(self, *arguments: Any) -> Captured:
            captured = super().capture(*arguments)
            captured.graph.replay = lambda: None
            return captured

    monkeypatch.setattr(module, "CudaTimer", WritesNothing)
    assert not ran().facts.outputs_finite


def test_nothing_is_built_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one turn; all graphs are captured before it, and the profiler shows launches after it."""

    class Watched(Turn):
        turns, captured_inside = 0, 0

        def __enter__(self) -> Self:
            self.turns += 1
            self.before = timers[0].captures
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            self.captured_inside += timers[0].captures - self.before

    timers: list[Timer] = []
    monkeypatch.setattr(module, "CudaTimer", lambda device: timers.append(Timer()) or timers[-1])
    launches, profiled_after = OnCpu.launches, []
    turn = Watched()
    monkeypatch.setattr(
        OnCpu, "launches", lambda cell, arm: (profiled_after.append(turn.turns), launches(cell, arm))[1]
    )
    ran(turn=turn)
    assert turn.turns == 1 and turn.captured_inside == 0
    assert profiled_after == [1] * len(ARMS)  # a process that was profiled launches more slowly ever after
    assert [timer.captures for timer in timers] == [len(ARMS) * STEPS + 1 + len(CONTROLS)]


def test_a_stranger_is_told_from_our_own_processes() -> None:
    """A process that the turn names as ours is nobody else's."""
    turn = Turn()
    turn.ours = frozenset({7})
    assert ran(turn=turn).facts.other_processes == ()


def test_on_a_cpu_times_are_the_wall_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no graph, no empty arm and no bandwidth, and the threads are as many as the settings say."""
    threads: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    found = replicate(Job("cuda", 100, SETTINGS, ON_CPU, 0), Turn())
    assert {(row["mode"], row["cache_state"]) for row in found.rows} == {("eager", "warm")}
    assert {row["arm"] for row in found.rows} == set(ARMS) and len(found.rows) == len(ARMS) * STEPS * SETTINGS.iters
    assert found.facts.bandwidth_bytes_per_s == () and found.facts.flush == "none"
    assert threads == [SETTINGS.cpu_threads]
