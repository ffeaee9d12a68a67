"""One replicate of the kernel check: what it times and judges, and how its processes share the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest
from bench.check.simulated import KERNELS, SHAPES, SMALL, checked, judged, timed
from standins import ON_CPU, ON_CUDA

from nsa.bench.apart.worker import replicate
from nsa.bench.check import correctness
from nsa.bench.check import replicate as module
from nsa.bench.check.job import Job
from nsa.bench.method import kernels
from nsa.bench.method.control import REPETITIONS
from nsa.bench.workers import Turn
from nsa.kernels.sdpa.packed import VARIANTS
from nsa.machine.nvml import Sampler
from nsa.records.schemas import CHECK_REPETITIONS
from nsa.records.words import CONTROLS

UNTIMED = {  # what captures, draws or judges, where it is called
    module: (
        "judge",
        "judge_timed",
        "on_unseen",
        "changed_input",
        "selected_oracle",
        "enter",
        "able",
        "full_case",
        "ragged_case",
    ),
    correctness: ("judge", "selected_oracle", "oracle", "ragged_case"),
}


def test_every_kernel_is_timed_equally_often_and_the_checked_one_twice() -> None:
    """The A/A control has as many times as the kernel under its own name, in the same blocks, and is not judged."""
    rows = checked().rows
    times = timed(rows)
    each = Counter((row["backend"], row["value_dim"]) for row in times)
    blocks = min(SMALL.iters, module.BLOCKS)
    expected = {(name, Dv): SMALL.iters + 1 for name in (*KERNELS, "again:cuda") for Dv in (32, 64)}
    assert each == expected | {(name, Dv): blocks * REPETITIONS for name in CONTROLS for Dv in (32, 64)}
    blocks = {
        name: Counter((row["value_dim"], row.get("block")) for row in times if row["backend"] == name)
        for name in ("cuda", "again:cuda")
    }
    assert blocks["cuda"] == blocks["again:cuda"]
    assert {row["backend"] for row in judged(rows)} == set(KERNELS)
    assert all(set(row) <= set(CHECK_REPETITIONS.names) for row in rows)


def test_every_kernel_is_judged_on_every_shape_and_seed() -> None:
    """One row for each fresh input, two for the unseen ones and one for all timed calls, each with its errors."""
    rows = judged(checked().rows)
    seeds = Counter((row["backend"], row["seed"]) for row in rows if row["seed"] is not None)
    assert seeds == {(name, seed): SHAPES for name in KERNELS for seed in range(SMALL.seeds)}
    others = Counter((row["backend"], row.get("judged")) for row in rows if row["seed"] is None)
    assert others == {(name, count): of * SHAPES for name in KERNELS for count, of in ((None, 2), (SMALL.iters + 1, 1))}
    assert all(row["fault"] is None and row["oracle_error"] < 1e-5 and row["mae"] < 1e-5 for row in rows)


@pytest.mark.parametrize("of", [2, 3, 5])
def test_the_processes_share_the_seeds(of: int) -> None:
    """Each fresh input is judged by one of them; each judges its own timed calls, whose inputs have no seed."""
    rows = [judged(checked(process=process, of=of).rows) for process in range(of)]
    counts = Counter((row["backend"], row["seed"]) for part in rows for row in part if row["seed"] is not None)
    assert counts == {(name, seed): SHAPES for name in KERNELS for seed in range(SMALL.seeds)}
    for process, part in enumerate(rows):
        assert {row["process"] for row in part} == {process}
        own = Counter(row["backend"] for row in part if row.get("judged"))
        assert own == dict.fromkeys(KERNELS, SHAPES)


def test_processes_have_inputs_and_an_order_of_their_own() -> None:
    """A replicate repeats the method, not the draw."""
    first, second = checked(process=0, of=2), checked(process=1, of=2)
    assert second.facts.replicates[0].process == 1 and len(timed(first.rows)) == len(timed(second.rows))
    orders = [[row["backend"] for row in timed(found.rows)] for found in (first, second)]
    assert orders[0] != orders[1]
    errors = [{row["oracle_error"] for row in judged(found.rows)} for found in (first, second)]
    assert not errors[0] & errors[1]


def test_another_seed_moves_every_draw() -> None:
    """No fresh input of one seed of the check is one of another's."""
    first, second = ({row["oracle_error"] for row in judged(checked(seed=seed).rows)} for seed in (0, 1))
    assert not first & second


class Watched(Turn):
    """A turn that notes what is captured before and inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = frozenset({7})
        self.turns = 0
        self.inside = False

    def __enter__(self) -> Self:
        self.turns, self.inside = self.turns + 1, True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside = False


def test_nothing_is_captured_or_judged_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn holds timing alone: the bandwidth's first, then one a shape."""
    turn = Watched()

    def outside(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            assert not turn.inside
            return function(*arguments, **named)

        return call

    for place, names in UNTIMED.items():
        for name in names:
            monkeypatch.setattr(place, name, outside(getattr(place, name)))
    seen: list[bool] = []
    monkeypatch.setattr(module, "bandwidths", lambda device: seen.append(turn.inside) or (4e12, 3.8e12))
    found = checked(turn=turn)
    assert turn.turns == 1 + SHAPES and seen == [True]
    assert found.facts.other_processes == ()  # 7 is one of ours


def test_facts_say_how_and_where_it_was_timed() -> None:
    """Device, flush, bandwidth, clocks, strangers and notes of the replicate are in its facts."""
    facts = checked().facts
    assert facts.device == ON_CUDA.device and facts.flush == "write 256 MiB, read 256 MiB" and facts.grid == "guide"
    assert facts.bandwidth_bytes_per_s == (4e12,) and facts.read_bandwidth_bytes_per_s == (3.8e12,)
    assert facts.other_processes == (7,)
    (state,) = facts.replicates
    readings = SHAPES * 2 * min(SMALL.iters, module.BLOCKS)  # the kernels, the control
    assert (state.sm_clock_max_mhz, state.sm_clock_min_mhz) == (1980, 1990 - 10 * readings)
    assert state.duration_s > 0
    assert (facts.dtype, facts.left_out, facts.notes) == ("float32", (), ())


def test_on_a_cpu_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls are made and judged; no time, no state and no bandwidth is recorded."""
    monkeypatch.setattr(module, "Sampler", Sampler)
    found = checked(host=ON_CPU)
    assert len(found.rows) == len(KERNELS) * SHAPES * (SMALL.seeds + 3)  # two unseen inputs, and the timed calls
    for row in found.rows:
        assert row["fault"] is None and row["oracle_error"] < 1e-4 and row.get("value_ns") is None
    facts = found.facts
    assert facts.flush == "none" and facts.other_processes == ()
    assert facts.bandwidth_bytes_per_s == facts.read_bandwidth_bytes_per_s == ()
    assert facts.replicates[0].sm_clock_max_mhz is None


def test_a_backend_competes_with_every_packed_variant() -> None:
    """The variants are those of packed SDPA, by their names; those that a CPU lacks are left out with a reason."""
    found = replicate(Job("sdpa", SMALL, ON_CPU, 0, packs=True), Turn())
    refused = {left.name for left in found.facts.left_out}
    assert {f"sdpa:{name}" for name in VARIANTS} >= {row["backend"] for row in found.rows} - {"sdpa"}
    assert refused == {"sdpa:blocks", "sdpa:varlen"}
    assert all("expected a CUDA device" in left.reason for left in found.facts.left_out)
    assert all(row["fault"] is None for row in found.rows)  # it packs, and the job says so


def test_the_batched_oracle_judges_all_but_the_first_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle that gathers nothing judges a seed of every shape, and the batched one all the rest."""
    calls: Counter[str] = Counter()
    batched = [(where, "selected_oracle") for where in (correctness, module, kernels)]
    for where, name in ((correctness, "oracle"), *batched):
        judge = getattr(where, name)
        monkeypatch.setattr(where, name, lambda call, name=name, judge=judge: (calls.update([name]), judge(call))[1])
    checked()
    rest = SMALL.seeds - 1 + 2 + 1  # the unseen inputs, and those of the last calls
    assert calls == {"oracle": SHAPES, "selected_oracle": SHAPES * rest}
