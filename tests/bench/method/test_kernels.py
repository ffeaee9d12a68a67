"""Kernels made ready to be timed: which take a call, what a timed call is given, and what its output is judged by."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
import torch
from standins import CPU, Timer

from nsa.bench.method.accuracy import oracle, worst_row_error
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.bench.method.kernels import able, changed_input, enter, judge, judge_timed, last_calls, on_unseen
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import Captured
from nsa.errors import InputError, KernelFailed, NoMemory
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.records.shapes import CheckShape

SHAPE = CheckShape(4, 2, 32, 32, 2, 16, 60, 2, "float32")
TIMERS = pytest.mark.parametrize("timer", [None, Timer], ids=["on a CPU", "captured"])


class Spy:
    """The right kernel, which keeps the queries that it was given."""

    def __init__(self) -> None:
        self.queries: list[torch.Tensor] = []

    def __call__(self, q: torch.Tensor, *rest: Any) -> torch.Tensor:
        self.queries.append(q.clone())
        return gather(q, *rest)


def queries_of(call: Call) -> Replays:
    """Replays of which each has another query and nothing else."""
    return Replays(call, 0, changes=False)


def fails(error: Exception) -> Callable[..., torch.Tensor]:
    def kernel(*_: Any) -> torch.Tensor:
        raise error

    return kernel


def test_a_refusal_is_kept_with_its_reason() -> None:
    """Kernels that take a call are told from those that refuse it; the call is made, so that a refusal shows."""
    spy = Spy()
    takes, refused = able({"cuda": spy, "fussy": fails(InputError("q: got float32"))}, full_case(SHAPE, 0, CPU))
    assert list(takes) == ["cuda"] and len(spy.queries) == 1
    assert refused == {"fussy": "q: got float32"}


@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (RuntimeError("no kernel image"), KernelFailed, "^sdpa:varlen: RuntimeError: no kernel image$"),
        (RuntimeError("CUDA out of memory."), NoMemory, "^CUDA out of memory.$"),
    ],
)
@TIMERS
def test_whatever_else_a_kernel_raises_is_its_failure(
    timer: type[Timer] | None, raised: Exception, expected: type[Exception], message: str
) -> None:
    """A packed variant that fails is named, whether it is asked, captured or timed."""
    kernels, call = {"cuda": gather, "sdpa:varlen": fails(raised)}, full_case(SHAPE, 0, CPU)
    with pytest.raises(expected, match=message):
        able(kernels, call)
    with pytest.raises(expected, match=message):
        timed = enter(kernels, {}, queries_of(call), random.Random(0), timer and timer())
        for candidate in timed.group.values():
            candidate.time(1)


@TIMERS
def test_every_timed_call_has_another_query(timer: type[Timer] | None) -> None:
    """No two timed calls have the same query, and what each returned is kept with the number of its inputs."""
    spy, call = Spy(), full_case(SHAPE, 0, CPU)
    timed = enter({"cuda": spy}, {}, queries_of(call), random.Random(0), timer and timer(), every=True)
    spy.queries.clear()
    times, returned = timed.group["cuda"].time(5), timed.group["cuda"].returned
    assert len(times) == len(spy.queries) == len(returned.outputs) == 5
    for one, other in combinations(spy.queries, 2):
        assert not torch.equal(one, other)
    assert returned.replays == [0, 1, 2, 3, 4]
    for query, output in zip(spy.queries, returned.outputs, strict=True):
        assert torch.equal(output, gather(*call._replace(q=query)))
    assert torch.equal(spy.queries[-1], call.q)  # the last stays in the call


@TIMERS
def test_where_not_every_output_is_judged_none_is_kept(timer: type[Timer] | None) -> None:
    """Outputs take memory: only the kernel check keeps them."""
    timed = enter({"cuda": gather}, {}, queries_of(full_case(SHAPE, 0, CPU)), random.Random(0), timer and timer())
    timed.group["cuda"].time(3)
    assert timed.group["cuda"].returned.outputs == timed.group["cuda"].returned.replays == []


@pytest.mark.parametrize("every", [False, True])
@TIMERS
def test_the_last_calls_have_a_query_that_nobody_has_seen(timer: type[Timer] | None, every: bool) -> None:
    """All kernels are given the same new query, and what these calls return is what is judged."""
    spies = {"cuda": Spy(), "again:cuda": Spy(), "sdpa:gather": Spy()}
    call = full_case(SHAPE, 0, CPU)
    timed = enter(spies, {"rows": 4}, queries_of(call), random.Random(0), timer and timer(), every)
    for candidate in timed.group.values():
        candidate.time(4)
    before = [query for spy in spies.values() for query in spy.queries]
    rows, outputs = last_calls(timed)
    last = [spy.queries[-1] for spy in spies.values()]
    assert all(torch.equal(query, call.q) for query in last)
    assert not any(torch.equal(query, call.q) for query in before)
    assert {row["backend"] for row in rows} == set(outputs) == set(spies)
    assert [row["order"] for row in rows] == [0, 1, 2] and {row["rows"] for row in rows} == {4}
    assert all(isinstance(row["value_ns"], int) for row in rows)
    for output, found in outputs.values():
        assert found is None and torch.equal(output, gather(*call))


@pytest.mark.parametrize("every", [False, True])
@TIMERS
def test_an_output_is_a_copy_of_its_own(timer: type[Timer] | None, every: bool) -> None:
    """Two kernels that return one tensor have an output each: that of their own last call."""
    shared = torch.zeros(2, 2, 2, 32)

    def returns_shared(*arguments: Any) -> torch.Tensor:
        shared.copy_(gather(*arguments))
        return shared

    def spoils_shared(*arguments: Any) -> torch.Tensor:
        shared.copy_(gather(*arguments) + 1)
        return shared

    kernels, replays = {"one": returns_shared, "other": spoils_shared}, queries_of(full_case(SHAPE, 0, CPU))
    timed = enter(kernels, {}, replays, random.Random(0), timer and timer(), every)
    _, outputs = last_calls(timed)
    assert torch.equal(outputs["one"][0] + 1, outputs["other"][0])


@pytest.mark.parametrize("every", [False, True])
def test_what_a_capture_has_written_is_poisoned(every: bool) -> None:
    """A graph whose replays write nothing shows NaN, not what was there when it was captured."""

    class WritesNothing(Timer):
        def capture(self, *arguments: Any) -> Captured:
            captured = super().capture(*arguments)
            captured.graph.replay = lambda: None
            return captured

    call = full_case(SHAPE, 0, CPU)
    timed = enter({"cuda": gather}, {}, queries_of(call), random.Random(0), WritesNothing(), every)
    timed.group["cuda"].time(2)
    _, outputs = last_calls(timed)
    assert outputs["cuda"][1] == "the output is not finite, or was not written everywhere"
    assert all(output.isnan().all() for output in timed.group["cuda"].returned.outputs)
    assert on_unseen(timed, ragged_case(SHAPE, 1, CPU), ())["cuda"][1] == outputs["cuda"][1]


def test_kernels_are_captured_in_random_order() -> None:
    """Where a graph's memory lies is no matter of its kernel's name, and each is captured once."""
    call, kernels = full_case(SHAPE, 0, CPU), {str(place): gather for place in range(6)}
    orders = set()
    for seed in range(3):
        timer = Timer()
        timed = enter(kernels, {}, queries_of(call), random.Random(seed), timer)
        assert timer.captures == 6 and set(timed.group) == set(kernels)
        orders.add(tuple(timed.group))
    assert len(orders) == 3


def test_each_output_is_judged_by_packed_sdpa_and_by_the_oracle() -> None:
    """Errors are those of the output that was returned; one of another shape has a fault and no error."""
    call = full_case(SHAPE, 0, CPU)
    exact, packed = oracle(call), gather(*call)
    outputs = {
        "sdpa:gather": (packed, None),
        "cuda": (1.01 * index_select(*call), None),
        "triton": (packed[:, :1], "the output is short"),
    }
    rows = {row["backend"]: row for row in judge(outputs, "sdpa:gather", {"rows": 4}, 3, exact)}
    assert {(row["rows"], row["seed"]) for row in rows.values()} == {(4, 3)}
    assert rows["sdpa:gather"]["mae"] == 0
    assert rows["cuda"]["oracle_error"] == pytest.approx(0.01, rel=1e-3)
    assert rows["cuda"]["mae"] == pytest.approx(float(0.01 * packed.abs().mean()), rel=1e-2)
    assert rows["triton"]["fault"] == "the output is short" and "mae" not in rows["triton"]
    own = rows["sdpa:gather"]["oracle_error"]
    assert isinstance(own, float) and own < 1e-6
    assert {row["sdpa_oracle_error"] for row in rows.values()} == {own}


@pytest.mark.parametrize("changes", [False, True])
def test_a_call_is_changed_in_its_query_alone(changes: bool) -> None:
    """Timing leaves keys, values, indices and lengths as they were drawn; a changed token is given back."""
    call, before = full_case(SHAPE, 0, CPU), full_case(SHAPE, 0, CPU)
    timed = enter({"cuda": gather}, {}, Replays(call, 0, changes), random.Random(0), None)
    timed.group["cuda"].time(3)
    last_calls(timed)
    timed.replays.restore()
    assert not torch.equal(before.q, call.q)
    assert changed_input(call._replace(q=before.q), before) is None


@TIMERS
def test_what_is_timed_is_what_is_replayed_on_unseen_inputs(timer: type[Timer] | None) -> None:
    """No kernel is captured anew, and each output is right for the unseen inputs, ragged and full."""
    made = timer and timer()
    replays = Replays(full_case(SHAPE, 0, CPU), 0, changes=True)
    timed = enter({"cuda": gather, "sdpa:gather": index_select}, {}, replays, random.Random(0), made)
    for unseen in (ragged_case(SHAPE, 1, CPU), full_case(SHAPE, 1, CPU)):
        outputs = on_unseen(timed, unseen, {"cuda"})
        assert set(outputs) == {"cuda", "sdpa:gather"}
        for output, found in outputs.values():
            assert found is None and worst_row_error(output, oracle(unseen)) < 1e-6
    assert made is None or made.captures == 2


@TIMERS
def test_a_capture_that_holds_its_inputs_is_wrong_on_unseen_ones(timer: type[Timer] | None) -> None:
    """A kernel that packed K and V when it was first called returns what was right for those."""
    kept: list[torch.Tensor] = []

    def packs_once(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> torch.Tensor:
        kept[:] = kept or [k.clone(), v.clone()]
        return gather(q, *kept, *rest)

    replays = queries_of(full_case(SHAPE, 0, CPU))
    timed = enter({"cuda": packs_once}, {}, replays, random.Random(0), timer and timer())
    unseen = full_case(SHAPE, 1, CPU)
    output, _ = on_unseen(timed, unseen, ())["cuda"]
    assert worst_row_error(output, oracle(unseen)) > 0.1


@TIMERS
def test_faults_on_unseen_inputs_are_seen(timer: type[Timer] | None) -> None:
    """An input that was changed is named, and so is a kernel whose two replays differ, where that is asked."""

    def changes_an_index(*arguments: Any) -> torch.Tensor:
        output = gather(*arguments)
        arguments[3][0, 0, 0] = -1
        return output

    calls = 0

    def drifts(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gather(*arguments) * (1 + 1e-4 * calls)

    kernels = {"cuda": changes_an_index, "triton": drifts, "sdpa:gather": drifts}
    timed = enter(kernels, {}, queries_of(full_case(SHAPE, 0, CPU)), random.Random(0), timer and timer())
    outputs = on_unseen(timed, full_case(SHAPE, 1, CPU), {"cuda", "triton"})
    assert {name: found for name, (_, found) in outputs.items()} == {
        "cuda": "the input block_indices was changed",
        "triton": "two replays on the same inputs differ",
        "sdpa:gather": None,
    }


@TIMERS
def test_every_timed_output_is_judged(timer: type[Timer] | None) -> None:
    """A row says how many were judged and has the error of the worst; a kernel that is right in all has none."""
    calls = 0

    def is_wrong_once(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return gather(*arguments) * (1.1 if calls == wrong else 1)

    kernels = {"cuda": is_wrong_once, "sdpa:gather": gather}
    wrong = 0
    replays = Replays(full_case(SHAPE, 0, CPU), 0, changes=True)
    timed = enter(kernels, {"rows": 4}, replays, random.Random(0), timer and timer(), every=True)
    wrong = calls + 2
    for candidate in timed.group.values():
        candidate.time(4)
    _, outputs = last_calls(timed)
    rows = {row["backend"]: row for row in judge_timed(timed, outputs, "sdpa:gather", {"rows": 4}, 0)}
    assert {(row["rows"], row["judged"], row["seed"], row["fault"]) for row in rows.values()} == {(4, 5, None, None)}
    assert rows["cuda"]["oracle_error"] == pytest.approx(0.1, rel=1e-3) and rows["cuda"]["mae"] == 0
    own = rows["sdpa:gather"]["oracle_error"]
    assert isinstance(own, float) and own < 1e-6
    assert {row["sdpa_oracle_error"] for row in rows.values()} == {own}


@TIMERS
def test_nan_in_one_timed_output_is_the_rows_error(timer: type[Timer] | None) -> None:
    """It is no smaller than any number."""
    replays = Replays(full_case(SHAPE, 0, CPU), 0, changes=True)
    timed = enter({"sdpa:gather": gather}, {}, replays, random.Random(0), timer and timer(), every=True)
    timed.group["sdpa:gather"].time(2)
    timed.group["sdpa:gather"].returned.outputs[0][0] = torch.nan
    _, outputs = last_calls(timed)
    (row,) = judge_timed(timed, outputs, "sdpa:gather", {}, 0)
    assert isinstance(row["oracle_error"], float) and math.isnan(row["oracle_error"])
