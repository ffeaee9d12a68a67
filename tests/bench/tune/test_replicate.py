"""One replicate of the tuning: the fastest of the right launch configurations wins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from standins import CPU, Sampler, Timer
from triton.runtime.errors import OutOfResources

from nsa.attention import reference
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.bench.method.timing import Captured
from nsa.bench.tune import replicate as module
from nsa.bench.tune.job import Tried, TunedSize
from nsa.bench.tune.replicate import BLOCKS, REPETITIONS, compare, tune
from nsa.bench.workers import Turn
from nsa.errors import KernelFailed, NoMemory
from nsa.kernels.compiling import NotCompiled
from nsa.kernels.triton import tuning
from nsa.kernels.triton.plan import LaunchConfig, candidates, rule
from nsa.kernels.triton.select import size_of
from nsa.records.shapes import CheckShape

SHAPE = CheckShape(2, 4, 32, 32, 4, 16, 100, 2, "float32")
CONFIGS = [LaunchConfig(16 * 2**place, 4, 1, False) for place in range(5)]
Kernel = Callable[..., torch.Tensor]


def right(*call: Any) -> torch.Tensor:
    """A correct kernel."""
    numbers = [tensor.numpy() for tensor in call[:5]]
    return torch.from_numpy(reference.select_attention(*numbers, call[5])).to(call[0].dtype)


def drops_the_last_block(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, indices: torch.Tensor, *rest: Any) -> Any:
    return right(q, k, v, indices[..., :-1], *rest)


def leaves_rows_unwritten(*call: Any) -> torch.Tensor:
    output = right(*call)
    output[-1] = torch.nan
    return output


def needs_too_much(*call: Any) -> torch.Tensor:
    raise OutOfResources(300_000, 232_448, "shared memory")


def wrong_when_captured() -> Kernel:
    """A kernel that is right when it is judged, and returns what it was captured with ever after."""
    outputs: list[torch.Tensor] = []

    def kernel(*call: Any) -> torch.Tensor:
        outputs.append(right(*call))
        return outputs[min(1, len(outputs) - 1)].clone()

    return kernel


class Priced(Timer):
    """A timer by whose clock each configuration takes a fixed time; it counts how often each was timed."""

    def __init__(self, nanoseconds: Mapping[LaunchConfig, int]) -> None:
        super().__init__()
        self.nanoseconds = nanoseconds
        self.timed: dict[LaunchConfig, int] = dict.fromkeys(nanoseconds, 0)

    def capture(self, prepare: Any, run: Any, warmup: int) -> Captured:
        captured = super().capture(prepare, run, warmup)
        captured.graph.config = run.args[0]
        return captured

    def time(
        self, restore: Any, replay: Any, cold: bool, repetitions: int, after: Callable[[], None] = lambda: None
    ) -> list[int]:
        super().time(restore, replay, cold, 1, after)
        config = replay.__self__.config
        self.timed[config] += repetitions
        return [self.nanoseconds[config]] * repetitions


def compared(kernels: Mapping[LaunchConfig, Kernel], timer: Timer) -> tuple[list[Tried], float | None]:
    """What comes of comparing kernels in the place of configurations."""
    as_run = {config: partial(lambda config, *call: kernels[config](*call), config) for config in kernels}
    call, ragged = full_case(SHAPE, 0, CPU), ragged_case(SHAPE, 0, CPU)
    return compare(as_run, call, ragged, timer, Turn(), Sampler())


def test_a_wrong_configuration_never_wins() -> None:
    """A wrong one, or one that cannot be launched, is not even timed; one that is wrong when timed does not count."""
    kernels = [drops_the_last_block, leaves_rows_unwritten, needs_too_much, wrong_when_captured(), right]
    timer = Priced(dict(zip(CONFIGS, (1000, 2000, 2500, 3000, 3100), strict=True)))
    tried, _ = compared(dict(zip(CONFIGS, kernels, strict=True)), timer)
    assert [one.plan.tokens for one in tried] == [config.tokens for config in CONFIGS]
    assert [one.median_us for one in tried] == [None, None, None, 3.0, 3.1]
    faults = [str(one.fault) for one in tried]
    assert "off the oracle" in faults[0] and "not finite" in faults[1] and "shared memory" in faults[2]
    assert "off the oracle" in faults[3] and tried[4].fault is None
    assert [timer.timed[config] for config in CONFIGS[:3]] == [0, 0, 0]


def test_the_slow_are_timed_less_and_the_first_always() -> None:
    """Those far behind after a block drop out; the rule's own configuration and its control stay to the end."""
    timer = Priced(dict(zip(CONFIGS, (9000, 100_000, 1000, 1400, 1600), strict=True)))
    tried, aa_ratio = compared(dict.fromkeys(CONFIGS, right), timer)
    whole, dropped = BLOCKS * REPETITIONS, REPETITIONS
    assert [one.repetitions for one in tried] == [whole, dropped, whole, whole, dropped]
    last = 1  # the call that is judged
    assert [timer.timed[config] for config in CONFIGS] == [
        2 * (whole + last),  # and its A/A control
        dropped,
        whole + last,
        whole + last,
        dropped,
    ]
    assert aa_ratio == 1.0


def test_where_none_is_right_nothing_is_timed() -> None:
    """There is then no A/A ratio either."""
    timer = Priced(dict.fromkeys(CONFIGS, 1000))
    tried, aa_ratio = compared(dict.fromkeys(CONFIGS, drops_the_last_block), timer)
    assert aa_ratio is None and sum(timer.timed.values()) == 0
    assert all(one.fault and one.median_us is None and one.repetitions == 0 for one in tried)


class CompilationError(Exception):
    """As Triton has it: no RuntimeError."""


@pytest.mark.parametrize("from_call", [1, 2], ids=["judged", "captured"])
@pytest.mark.parametrize(
    ("raised", "expected", "message"),
    [
        (RuntimeError("CUDA out of memory."), NoMemory, r"^CUDA out of memory\.$"),
        (RuntimeError("no kernel image"), KernelFailed, r"^triton.*: RuntimeError: no kernel image$"),
        (CompilationError("at 3:1:\nptxas fatal"), KernelFailed, r"^triton.*: CompilationError: at 3:1:$"),
    ],
)
def test_a_configuration_that_fails_ends_the_tuning(
    from_call: int, raised: Exception, expected: type[Exception], message: str
) -> None:
    """Such a device answers nothing more; the message says that it is Triton's."""
    calls = 0

    def fails(*call: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls >= from_call:
            raise raised
        return right(*call)

    with pytest.raises(expected, match=message):
        compared({CONFIGS[0]: right, CONFIGS[1]: fails}, Priced(dict.fromkeys(CONFIGS, 1)))


def tuned(monkeypatch: pytest.MonkeyPatch, kernels: Callable[[LaunchConfig], Kernel], timer: Timer) -> TunedSize:
    """SHAPE tuned with kernels in the place of the launched ones."""
    monkeypatch.setattr(module, "run", lambda config, *call: kernels(config)(*call))
    return tune(SHAPE, CPU, timer, Turn(), Sampler())


def test_the_fastest_right_one_is_what_the_backend_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all candidates of the size the fastest right one is frozen; all that were tried are kept."""
    call = full_case(SHAPE, 0, CPU)
    size = size_of(call.q, call.v, call.block_indices, call.block_size)
    tried, stale = list(candidates(size)), wrong_when_captured()
    timer = Priced({config: 9000 - place for place, config in enumerate(tried)} | {tried[2]: 7000, tried[3]: 8000})
    found = tuned(monkeypatch, lambda config: stale if config == tried[2] else right, timer)
    assert len(found.candidates) == len(tried) and found.candidates[2].fault
    assert found.rule == found.candidates[0].plan and tried[0] == rule(size)
    artifact = {"status": "ok", "reason": None, "fix": None, "tuned_for": "it"}
    read = tuning.of({**artifact, "sizes": [json.loads(found.model_dump_json())]})
    assert read.plans == {size: tried[3]}


@pytest.mark.parametrize("broken", [0, -1])
def test_a_time_of_nothing_makes_no_configuration_the_fastest(monkeypatch: pytest.MonkeyPatch, broken: int) -> None:
    """An event time of 0 or less is broken, and the next best one is frozen."""
    call = full_case(SHAPE, 0, CPU)
    tried = list(candidates(size_of(call.q, call.v, call.block_indices, call.block_size)))
    timer = Priced(dict.fromkeys(tried, 9000) | {tried[1]: broken, tried[2]: 7000})
    found = tuned(monkeypatch, lambda config: right, timer)
    assert found.plan in tried and found.plan != tried[1]


def test_without_a_right_one_none_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least wrong is not taken."""
    found = tuned(monkeypatch, lambda config: drops_the_last_block, Priced({}))
    assert found.plan is None and all(tried.fault for tried in found.candidates)


def test_a_configuration_that_does_not_compile_is_out() -> None:
    """It has a fault and no time, and the others are timed."""

    def does_not(*call: Any) -> torch.Tensor:
        raise NotCompiled("triton: it does not compile: ptxas fatal")

    timer = Priced(dict(zip(CONFIGS, (1000, 2000, 2500, 3000, 3100), strict=True)))
    tried, _ = compared({config: does_not if config == CONFIGS[0] else right for config in CONFIGS}, timer)
    assert (tried[0].median_us, tried[0].fault) == (None, "triton: it does not compile: ptxas fatal")
    assert all(one.median_us is not None for one in tried[1:])
