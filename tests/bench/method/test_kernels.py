"""Kernels made ready to be timed: which take a call, what a timed call is given, and what its output is judged by."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from standins import CPU, Timer

from nsa.bench.method.accuracy import oracle
from nsa.bench.method.inputs import Call, full_case
from nsa.bench.method.kernels import able, enter, judge, last_calls
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
        timed = enter(kernels, {}, call, random.Random(0), timer and timer())
        for candidate in timed.group.values():
            candidate.time(1)


@TIMERS
def test_every_timed_call_has_another_query(timer: type[Timer] | None) -> None:
    """No timed call follows one of the same query, so that none can return what an earlier one computed."""
    spy, call = Spy(), full_case(SHAPE, 0, CPU)
    timed = enter({"cuda": spy}, {}, call, random.Random(0), timer and timer())
    spy.queries.clear()
    times = timed.group["cuda"].time(5)
    assert len(times) == len(spy.queries) == 5
    for one, other in zip(spy.queries, spy.queries[1:], strict=False):
        assert not torch.equal(one, other)
    assert torch.equal(timed.group["cuda"].output(), gather(*call))  # of the last query, which stays in the call


@TIMERS
def test_the_last_calls_have_a_query_that_nobody_has_seen(timer: type[Timer] | None) -> None:
    """All kernels are given the same new query, and what these calls return is what is judged."""
    spies = {"cuda": Spy(), "again:cuda": Spy(), "sdpa:gather": Spy()}
    call = full_case(SHAPE, 0, CPU)
    timed = enter(spies, {"rows": 4}, call, random.Random(0), timer and timer())
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


@TIMERS
def test_an_output_is_a_copy_of_its_own(timer: type[Timer] | None) -> None:
    """Two kernels that return one tensor have an output each: that of their own last call."""
    shared = torch.zeros(2, 2, 2, 32)

    def returns_shared(*arguments: Any) -> torch.Tensor:
        shared.copy_(gather(*arguments))
        return shared

    def spoils_shared(*arguments: Any) -> torch.Tensor:
        shared.copy_(gather(*arguments) + 1)
        return shared

    call = full_case(SHAPE, 0, CPU)
    timed = enter({"one": returns_shared, "other": spoils_shared}, {}, call, random.Random(0), timer and timer())
    _, outputs = last_calls(timed)
    assert torch.equal(outputs["one"][0] + 1, outputs["other"][0])


def test_what_a_capture_has_written_is_poisoned() -> None:
    """A graph whose replays write nothing shows NaN, not what was there when it was captured."""

    class WritesNothing(Timer):
        def capture(self, *arguments: Any) -> Captured:
            captured = super().capture(*arguments)
            captured.graph.replay = lambda: None
            return captured

    timed = enter({"cuda": gather}, {}, full_case(SHAPE, 0, CPU), random.Random(0), WritesNothing())
    _, outputs = last_calls(timed)
    assert outputs["cuda"][1] == "the output is not finite, or was not written everywhere"


def test_kernels_are_captured_in_random_order() -> None:
    """Where a graph's memory lies is no matter of its kernel's name, and each is captured once."""
    call, kernels = full_case(SHAPE, 0, CPU), {str(place): gather for place in range(6)}
    orders = set()
    for seed in range(3):
        timer = Timer()
        timed = enter(kernels, {}, call, random.Random(seed), timer)
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


def test_a_call_is_changed_in_its_query_alone() -> None:
    """Timing leaves keys, values, indices and lengths as they were drawn."""
    call = full_case(SHAPE, 0, CPU)
    before = Call(*(part.clone() if isinstance(part, torch.Tensor) else part for part in call))
    timed = enter({"cuda": gather}, {}, call, random.Random(0), None)
    timed.group["cuda"].time(3)
    last_calls(timed)
    assert not torch.equal(before.q, call.q)
    for old, new in zip(before[1:5], call[1:5], strict=True):
        assert torch.equal(old.view(torch.uint8), new.view(torch.uint8))
