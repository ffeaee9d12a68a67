"""The kernel check of kernels that are wrong, refuse or fail: whose it is, and what is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench.check.simulated import RIVALS, SHAPES, SMALL, checked, judged, mine, timed
from standins import ON_CPU, Timer

from nsa.bench.apart.worker import replicate
from nsa.bench.check import correctness
from nsa.bench.check import replicate as module
from nsa.bench.check.job import Job
from nsa.bench.workers import Turn
from nsa.errors import BackendUnavailable, InputError, KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather
from nsa.records.facts import LeftOut
from nsa.records.words import CONTROLS


def test_a_fault_in_one_process_shows_wherever_it_is() -> None:
    """A kernel that is wrong in the second process only has its error in a row of that process."""
    wrong = checked(lambda *arguments: mine(*arguments) * 1.1, process=1, of=2)
    assert min(row["oracle_error"] for row in judged(wrong.rows) if row["backend"] == "cuda") > 0.05


def test_a_variant_that_refuses_a_shape_is_left_out_with_its_reason() -> None:
    """The reason is kept for every shape, and the others go on."""

    def fussy(*arguments: Any) -> torch.Tensor:
        if arguments[2].shape[3] == 64:
            raise InputError("v: got Dv = 64")
        return gather(*arguments)

    found = checked(rivals={**RIVALS, "sdpa:varlen": fussy})
    (left,) = found.facts.left_out
    assert (left.name, left.reason) == ("sdpa:varlen", "v: got Dv = 64") and isinstance(left, LeftOut)
    assert left.shape == "N=4 h=2 D=32 Dv=64 n=3"
    assert {row["value_dim"] for row in found.rows if row["backend"] == "sdpa:varlen"} == {32}


def test_a_shape_that_the_backend_refuses_is_a_fault_of_that_shape() -> None:
    """One row says so; nothing is timed there, and the other shapes are checked."""

    def refuses_64(*arguments: Any) -> torch.Tensor:
        if arguments[2].shape[3] == 64:
            raise InputError("v: got Dv = 64, expected 32")
        return mine(*arguments)

    rows = checked(refuses_64).rows
    (row,) = [row for row in rows if row["value_dim"] == 64]
    assert (row["backend"], row["fault"]) == ("cuda", "refused: v: got Dv = 64, expected 32")
    assert len([row for row in timed(rows) if row["backend"] not in CONTROLS]) == (SMALL.iters + 1) * 4


@pytest.mark.parametrize("name", ["cuda", "sdpa:varlen"])
@pytest.mark.parametrize("from_call", [1, 6])
def test_a_kernel_or_a_variant_that_fails_is_named(name: str, from_call: int) -> None:
    """An error that is no refusal, sooner or later, is a failure with the name of who raised it."""
    calls = 0

    def fails(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls >= from_call:
            raise RuntimeError("no kernel image is available\nmore")
        return mine(*arguments)

    with pytest.raises(KernelFailed, match=rf"^{name}: RuntimeError: no kernel image is available$"):
        checked(fails) if name == "cuda" else checked(rivals={**RIVALS, name: fails})


def test_a_device_that_fails_between_calls_is_the_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the harness learns of the device, outside of any call, is the checked backend's failure."""

    def lost(*_: object) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(module, "selected_oracle", lost)
    with pytest.raises(KernelFailed, match=r"^cuda: AcceleratorError: CUDA error"):
        checked()


class OnlyWhenTimed:
    """A right kernel that does something else after the unseen inputs and before the judgement: while it is timed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, instead: Callable[..., torch.Tensor]) -> None:
        self.instead, self.timing = instead, False
        for name, timing in (("last_calls", False), ("interleave", True)):
            monkeypatch.setattr(module, name, self.around(getattr(module, name), timing))

    def around(self, function: Callable[..., Any], timing: bool) -> Callable[..., Any]:
        """The function, at work while the kernel is timed, and whether it is timed afterwards."""

        def call(*arguments: Any, **named: Any) -> Any:
            self.timing = True
            try:
                return function(*arguments, **named)
            finally:
                self.timing = timing

        return call

    def __call__(self, *arguments: Any) -> torch.Tensor:
        return self.instead(*arguments) if self.timing else mine(*arguments)


def keeps(*places: int) -> Callable[..., torch.Tensor]:
    """Takes some arguments as they were when a call of these sizes was first timed."""
    first: dict[torch.Size, tuple[Any, ...]] = {}

    def kernel(*arguments: Any) -> torch.Tensor:
        kept = first.setdefault(arguments[2].shape, tuple(arguments[place].clone() for place in places))
        now = list(arguments)
        for place, tensor in zip(places, kept, strict=True):
            now[place] = tensor
        return mine(*now)

    return kernel


def is_wrong_once() -> Callable[..., torch.Tensor]:
    """Only its timed call in the second block is wrong, and that of its A/A control."""
    calls: Counter[torch.Size] = Counter()

    def kernel(*arguments: Any) -> torch.Tensor:
        calls[arguments[2].shape] += 1
        return mine(*arguments) * (1.1 if calls[arguments[2].shape] in {3, 4} else 1)

    return kernel


@pytest.mark.parametrize(
    "instead",
    [keeps(0), keeps(1, 2), keeps(2), is_wrong_once()],
    ids=["keeps the query", "keeps K and V", "keeps V", "is wrong once"],
)
def test_what_is_wrong_only_when_it_is_timed_has_its_error(
    instead: Callable[..., torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row of the timed calls has the error on every shape; the same kernel's other rows have none."""
    rows = [row for row in judged(checked(OnlyWhenTimed(monkeypatch, instead)).rows) if row["backend"] == "cuda"]
    assert all(row["oracle_error"] > 0.05 for row in rows if row.get("judged"))
    assert all(row["oracle_error"] < 1e-5 for row in rows if not row.get("judged"))
    assert Counter(row.get("judged") for row in rows)[SMALL.iters + 1] == SHAPES


@pytest.mark.parametrize(("place", "name"), [(1, "k"), (2, "v")])
def test_an_input_that_is_changed_when_it_is_timed_is_a_fault(
    place: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where no output shows it: the checked kernel has the fault on every shape, and no variant has it."""

    def writes_beyond_the_lengths(*arguments: Any) -> torch.Tensor:
        output = mine(*arguments)
        arguments[place][:, :, -1] = 0
        return output

    rows = judged(checked(OnlyWhenTimed(monkeypatch, writes_beyond_the_lengths)).rows)
    faults = [(row["backend"], row["fault"], row["judged"]) for row in rows if row["fault"]]
    assert faults == [("cuda", f"the input {name} was changed", SMALL.iters + 1)] * SHAPES
    assert all(row["oracle_error"] < 1e-5 for row in rows)


def test_the_first_fault_stands_in_the_first_row() -> None:
    """What is wrong with a kernel's behaviour is a fault of every shape that shows it."""
    noise = torch.Generator().manual_seed(0)

    def noisy(*arguments: Any) -> torch.Tensor:
        output = mine(*arguments)
        towards = output + torch.randn(output.shape, generator=noise)
        return torch.where(output == 0, 0, torch.nextafter(output, towards))

    faults = [row["fault"] for row in checked(noisy).rows if row["backend"] == "cuda" and row.get("seed") == 0]
    assert faults == ["two calls on the same inputs differ: nondeterministic or stale"] * SHAPES


def test_packed_sdpa_under_another_name_is_a_fault_of_the_first_shape() -> None:
    """One row of the first process says so: what no shape and no process changes is asked once."""
    faults = [[row for row in judged(checked(gather, process, of=2).rows) if row["fault"]] for process in (0, 1)]
    (row,) = faults[0]
    assert "packed SDPA under another name" in row["fault"] and faults[1] == []
    assert (row["backend"], row["seed"], row["process"], row["value_dim"]) == ("cuda", 0, 0, 32)


def test_the_profiler_comes_after_the_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was profiled launches more slowly ever after, so nothing is timed there."""
    timers: list[Timer] = []
    calls: list[int] = []

    def noted(*arguments: Any) -> None:
        calls.append(timers[0].calls)

    monkeypatch.setattr(module, "CudaTimer", lambda device: timers.append(Timer()) or timers[-1])
    monkeypatch.setattr(correctness, "is_packed_sdpa", noted)
    checked()
    assert calls == [timers[0].calls] and calls[0] > 0


def test_what_packs_may_launch_what_packed_sdpa_launches() -> None:
    """A backend that says that it packs is no packed SDPA in disguise."""
    assert all(row["fault"] is None for row in judged(checked(gather, packs=True).rows))


def test_a_backend_that_does_not_load_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is checked in its place."""

    def damaged(name: str, machine: object, flags: object) -> Backend:
        raise BackendUnavailable(name, "its library is damaged", "delete it")

    monkeypatch.setattr(registry, "load", damaged)
    with pytest.raises(BackendUnavailable, match="its library is damaged"):
        replicate(Job("cuda", SMALL, ON_CPU, 0), Turn())
