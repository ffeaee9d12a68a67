"""One replicate of the tuning: the fastest of the right launch configurations wins."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from standins import CPU, ON_CPU, Sampler, Timer
from triton.runtime.errors import OutOfResources

from nsa.attention import reference
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.bench.method.timing import Captured
from nsa.bench.tune import replicate as module
from nsa.bench.tune.job import Job, Sizes, StepSizes, Tried, TunedSize
from nsa.bench.tune.replicate import BLOCKS, REPETITIONS, compare, compile_share, replicate, shapes, tune
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice, RooflineSettings
from nsa.errors import KernelFailed, NoMemory
from nsa.kernels.compiling import NotCompiled
from nsa.kernels.triton import tuning
from nsa.kernels.triton.plan import LaunchConfig, Size, candidates, rule
from nsa.kernels.triton.select import size_of
from nsa.records.shapes import CheckShape

STEP = StepSizes(
    rows=2, heads_per_group=4, head_dim=32, value_dim=32, sel_count=4, sel_block=16, groups=2, dtype=DtypeByDevice()
)
CHECK = CheckSettings(rows=(4,), heads_per_group=(2,), head_dim=(64,), value_dim=(32,), cpu_rows=4, cpu_context=512)
SIZES = Sizes(STEP, CHECK, RooflineSettings(rows=(4, 8), dtype="float32"))
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


def test_every_measured_size_is_tuned_once() -> None:
    """Decode steps, the check's and the roofline's shapes are there, each once, and not what the kernel refuses."""
    found = shapes(SIZES, "cuda")
    assert found[0] == CheckShape(2, 4, 32, 32, 4, 16, 4096, 2, "bfloat16")
    assert CheckShape(4, 2, 64, 32, 8, 64, 4096, 4, "bfloat16") in found
    assert CheckShape(8, 16, 128, 128, 16, 64, 4096, 4, "float32") in found
    assert len(found) == len(set(found)) == 1 + 2 + 2 * 3 * 2 * 2
    wide = CheckSettings(head_dim=(512,), value_dim=(64,))
    assert len(shapes(Sizes(STEP, wide, SIZES.roofline), "cuda")) == len(found) - 2


FEW = Sizes(STEP, CHECK, RooflineSettings(rows=(4, 64), heads_per_group=(4,), head_dim=(64, 128), context=128))


def compiled(monkeypatch: pytest.MonkeyPatch, process: int, of: int) -> list[tuple[Any, ...]]:
    """The kernels that one process compiles: what they depend on, and how many rows it took."""
    seen: list[tuple[Any, ...]] = []

    def run(config: LaunchConfig, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any) -> None:
        seen.append((q.shape[-1], v.shape[-1], rest[2], q.dtype, config))
        assert q.shape[0] == 1  # one sequence: the launch is of no matter
        if len(seen) % 3 == 0:
            needs_too_much()

    monkeypatch.setattr(module, "run", run)
    compile_share(shapes(FEW, "cpu"), Job(FEW, ON_CPU, process, of), CPU)
    return seen


def test_each_kernel_is_compiled_by_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shares of all processes are every configuration of every size, each once."""
    shares = [compiled(monkeypatch, process, 3) for process in range(3)]
    together = [kernel for share in shares for kernel in share]
    assert len(together) == len(set(together)) and set(together) == set(compiled(monkeypatch, 0, 1))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    wanted = set()
    for shape in shapes(FEW, "cpu"):
        call = full_case(shape, 0, CPU)
        size = size_of(call.q, call.v, call.block_indices, call.block_size)
        wanted |= {
            (shape.head_dim, shape.value_dim, shape.sel_block, call.q.dtype, config) for config in candidates(size)
        }
    assert set(together) == wanted


def test_a_compiler_that_fails_is_tritons_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its error, which is no RuntimeError, is one line."""

    def run(*_: Any) -> None:
        raise SyntaxError("at 3:1:\nptxas fatal")

    monkeypatch.setattr(module, "run", run)
    with pytest.raises(KernelFailed, match=r"^triton: SyntaxError: at 3:1:$"):
        compile_share(shapes(FEW, "cpu")[:1], Job(FEW, ON_CPU, 0, 1), CPU)


@pytest.mark.parametrize("broken", ["one", "every"])
def test_a_share_fails_when_nothing_in_it_compiles(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One kernel that does not compile is out; where none does, the compiler is at fault and the tuning says so."""
    seen: list[LaunchConfig] = []

    def run(plan: LaunchConfig, *call: Any) -> None:
        seen.append(plan)
        if broken == "every" or len(seen) == 1:
            raise NotCompiled("triton: it does not compile: ptxas fatal")

    monkeypatch.setattr(module, "run", run)
    if broken == "every":
        with pytest.raises(NotCompiled, match="ptxas fatal"):
            compile_share(shapes(FEW, "cpu"), Job(FEW, ON_CPU, 0, 1), CPU)
    else:
        compile_share(shapes(FEW, "cpu"), Job(FEW, ON_CPU, 0, 1), CPU)
    assert len(seen) > 2


def test_a_configuration_that_does_not_compile_is_out() -> None:
    """It has a fault and no time, and the others are timed."""

    def does_not(*call: Any) -> torch.Tensor:
        raise NotCompiled("triton: it does not compile: ptxas fatal")

    timer = Priced(dict(zip(CONFIGS, (1000, 2000, 2500, 3000, 3100), strict=True)))
    tried, _ = compared({config: does_not if config == CONFIGS[0] else right for config in CONFIGS}, timer)
    assert (tried[0].median_us, tried[0].fault) == (None, "triton: it does not compile: ptxas fatal")
    assert all(one.median_us is not None for one in tried[1:])


def test_the_sizes_are_shared_by_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each size is tuned by one process, after a round in which all have compiled."""
    happened: list[str] = []

    class Watched(Turn):
        def __enter__(self) -> Turn:
            happened.append("turn")
            return super().__enter__()

    def stub(shape: CheckShape, *_: Any) -> TunedSize:
        happened.append("tune")
        shares[-1].append(str(shape))
        return TunedSize(size=size, plan=None, rule=rule(size), candidates=(), aa_ratio=None)

    monkeypatch.setattr(module, "compile_share", lambda *_: happened.append("compile"))
    monkeypatch.setattr(module, "tune", stub)
    size, shares = Size(2, 4, 4, 16, 32, 32, 4, 1), list[list[str]]()
    for process in range(4):
        happened.clear()
        shares.append([])
        facts = replicate(Job(SIZES, ON_CPU, process, 4), Watched()).facts
        assert happened == ["compile", "turn", *["tune"] * len(facts.sizes)]
    every = [str(shape) for shape in shapes(SIZES, "cpu")]
    assert sorted(shape for share in shares for shape in share) == sorted(every)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
