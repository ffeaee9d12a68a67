"""One replicate of the kernel check: what it records of right, wrong, refusing and failing kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest
import torch
from standins import CPU, ON_CPU, ON_CUDA, Sampler, Timer

from nsa.bench.check import replicate as module
from nsa.bench.check.job import Job
from nsa.bench.check.replicate import check_kernel, replicate
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice
from nsa.errors import BackendUnavailable, InputError, KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import VARIANTS, gather, index_select
from nsa.records.facts import CheckFacts, LeftOut
from nsa.records.parquet import Row
from nsa.records.schemas import CHECK_REPETITIONS

SMALL = CheckSettings(
    rows=(4,),
    heads_per_group=(2,),
    head_dim=(32,),
    value_dim=(32, 64),
    sel_count=(3,),
    sel_block=16,
    groups=2,
    context=60,
    dtype=DtypeByDevice(cuda="float32", cpu="float32"),
    seeds=2,
    iters=4,
    processes=2,
    cpu_rows=4,
    cpu_context=60,
)
RIVALS = {"sdpa:gather": gather, "sdpa:index_select": index_select}
KERNELS = ("cuda", *RIVALS)
SHAPES = 2


def mine(*arguments: Any) -> torch.Tensor:
    """A right kernel that launches something else than packed SDPA does."""
    return gather(*arguments) * 1


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU in the place of ON_CUDA's GPU."""
    monkeypatch.setattr(module, "CudaTimer", Timer)
    monkeypatch.setattr(module, "Sampler", Sampler)
    monkeypatch.setattr(module, "copy_bandwidth", lambda device: 4e12)
    for case in (full_case, ragged_case):
        on_cpu: Callable[..., object] = lambda shape, seed, device, case=case: case(shape, seed, CPU)
        monkeypatch.setattr(module, case.__name__, on_cpu)


def checked(
    kernel: Callable[..., torch.Tensor] = mine, process: int = 0, turn: Turn | None = None, **changes: Any
) -> Replicated[CheckFacts]:
    """What one replicate on the stand-in for a GPU finds of a kernel."""
    options: dict[str, Any] = {"rivals": RIVALS, "packs": False, "host": ON_CUDA, "seed": 0} | changes
    job = Job("cuda", SMALL, options["host"], process, options["seed"])
    return check_kernel(Backend("cuda", kernel), options["rivals"], job, turn or Turn(), options["packs"])


def judged(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("seed") is not None]


def timed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.get("value_ns") is not None]


def test_every_kernel_is_timed_equally_often_and_the_checked_one_twice(simulated: None) -> None:
    """The A/A control has as many times as the kernel under its own name, in the same blocks, and is not judged."""
    rows = checked().rows
    times = timed(rows)
    each = Counter((row["backend"], row["value_dim"]) for row in times)
    assert each == {(name, Dv): SMALL.iters + 1 for name in (*KERNELS, "again:cuda") for Dv in (32, 64)}
    blocks = {
        name: Counter((row["value_dim"], row.get("block")) for row in times if row["backend"] == name)
        for name in ("cuda", "again:cuda")
    }
    assert blocks["cuda"] == blocks["again:cuda"]
    assert {row["backend"] for row in judged(rows)} == set(KERNELS)
    assert all(set(row) <= set(CHECK_REPETITIONS.names) for row in rows)


def test_the_first_process_judges_every_kernel_on_every_shape_and_seed(simulated: None) -> None:
    """One row for each fresh input and one for the timed calls, each with its errors."""
    rows = judged(checked().rows)
    seeds = [*range(SMALL.seeds), SMALL.seeds]  # the last is that of the timed calls
    assert Counter((row["backend"], row["seed"]) for row in rows) == {
        (name, seed): SHAPES for name in KERNELS for seed in seeds
    }
    assert all(row["fault"] is None and row["oracle_error"] < 1e-5 and row["mae"] < 1e-5 for row in rows)


def test_other_processes_judge_their_timed_calls_alone(simulated: None) -> None:
    """What no process changes is judged once; inputs, order and errors of the timed calls are each process's own."""
    first, second = checked(process=0), checked(process=1)
    assert {row["seed"] for row in judged(second.rows)} == {SMALL.seeds + 1}
    assert {row["process"] for row in second.rows} == {1}
    assert second.facts.replicates[0].process == 1
    assert len(timed(first.rows)) == len(timed(second.rows))
    orders = [[row["backend"] for row in timed(found.rows)] for found in (first, second)]
    assert orders[0] != orders[1]
    errors = [
        {row["oracle_error"] for row in judged(found.rows) if row["seed"] >= SMALL.seeds} for found in (first, second)
    ]
    assert not errors[0] & errors[1]


def test_another_seed_moves_every_draw(simulated: None) -> None:
    """No fresh input of one seed of the check is one of another's."""
    first, second = ({row["oracle_error"] for row in judged(checked(seed=seed).rows)} for seed in (0, 1))
    assert not first & second


def test_a_fault_in_one_process_shows_wherever_it_is(simulated: None) -> None:
    """A kernel that is wrong in the second process only has its error in a row of that process."""
    wrong = checked(lambda *arguments: mine(*arguments) * 1.1, process=1)
    assert min(row["oracle_error"] for row in judged(wrong.rows) if row["backend"] == "cuda") > 0.05


def test_a_variant_that_refuses_a_shape_is_left_out_with_its_reason(simulated: None) -> None:
    """The reason is kept for every shape, and the others go on."""

    def fussy(*arguments: Any) -> torch.Tensor:
        if arguments[2].shape[3] == 64:
            raise InputError("v: got Dv = 64")
        return gather(*arguments)

    found = checked(rivals={**RIVALS, "sdpa:varlen": fussy})
    (left,) = found.facts.left_out
    assert (left.name, left.reason) == ("sdpa:varlen", "v: got Dv = 64") and isinstance(left, LeftOut)
    assert "value_dim=64" in left.shape
    assert {row["value_dim"] for row in found.rows if row["backend"] == "sdpa:varlen"} == {32}


def test_a_shape_that_the_backend_refuses_is_a_fault_of_that_shape(simulated: None) -> None:
    """One row says so; nothing is timed there, and the other shapes are checked."""

    def refuses_64(*arguments: Any) -> torch.Tensor:
        if arguments[2].shape[3] == 64:
            raise InputError("v: got Dv = 64, expected 32")
        return mine(*arguments)

    rows = checked(refuses_64).rows
    (row,) = [row for row in rows if row["value_dim"] == 64]
    assert (row["backend"], row["fault"]) == ("cuda", "refused: v: got Dv = 64, expected 32")
    assert len(timed(rows)) == (SMALL.iters + 1) * 4


@pytest.mark.parametrize("name", ["cuda", "sdpa:varlen"])
@pytest.mark.parametrize("from_call", [1, 6])
def test_a_kernel_or_a_variant_that_fails_is_named(simulated: None, name: str, from_call: int) -> None:
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


def test_a_device_that_fails_between_calls_is_the_backends(simulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the harness learns of the device, outside of any call, is the checked backend's failure."""

    def lost(*_: object) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(module, "selected_oracle", lost)
    with pytest.raises(KernelFailed, match=r"^cuda: AcceleratorError: CUDA error"):
        checked()


def test_the_first_fault_stands_in_the_first_row(simulated: None) -> None:
    """What is wrong with a kernel's behaviour is a fault of the shape, and is looked for once no output is wrong."""
    noise = torch.Generator().manual_seed(0)

    def noisy(*arguments: Any) -> torch.Tensor:
        output = mine(*arguments)
        towards = output + torch.randn(output.shape, generator=noise)
        return torch.where(output == 0, 0, torch.nextafter(output, towards))

    faults = [row["fault"] for row in checked(noisy).rows if row["backend"] == "cuda" and row.get("seed") == 0]
    assert faults == ["two calls on the same inputs differ: nondeterministic or stale"] * SHAPES
    packed = checked(gather).rows
    faults = [row["fault"] for row in packed if row["backend"] == "cuda" and row.get("seed") == 0]
    assert "packed SDPA under another name" in faults[0] and faults[1] is None  # asked on the first shape


def test_what_packs_may_launch_what_packed_sdpa_launches(simulated: None) -> None:
    """A backend that says that it packs is no packed SDPA in disguise."""
    assert all(row["fault"] is None for row in judged(checked(gather, packs=True).rows))


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


def test_nothing_is_captured_or_judged_in_a_turn(simulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn holds timing alone: the bandwidth's first, then one a shape."""
    turn = Watched()

    def outside(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            assert not turn.inside
            return function(*arguments, **named)

        return call

    for name in ("enter", "judge", "selected_oracle", "oracle", "able", "full_case", "ragged_case"):
        monkeypatch.setattr(module, name, outside(getattr(module, name)))
    seen: list[bool] = []
    monkeypatch.setattr(module, "copy_bandwidth", lambda device: seen.append(turn.inside) or 4e12)
    found = checked(turn=turn)
    assert turn.turns == 1 + SHAPES and seen == [True]
    assert found.facts.other_processes == ()  # 7 is one of ours


def test_facts_say_how_and_where_it_was_timed(simulated: None) -> None:
    """Device, flush, bandwidth, clocks, strangers and notes of the replicate are in its facts."""
    facts = checked().facts
    assert facts.device == ON_CUDA.device and facts.flush == "write 256 MiB" and facts.grid == "guide"
    assert facts.bandwidth_bytes_per_s == (4e12,) and facts.other_processes == (7,)
    (state,) = facts.replicates
    readings = SHAPES * min(SMALL.iters, module.BLOCKS)
    assert (state.sm_clock_max_mhz, state.sm_clock_min_mhz) == (1980, 1990 - 10 * readings)
    assert state.temperature_max_c == 60 + readings and state.duration_s > 0
    assert (facts.dtype, facts.seeds, facts.left_out, facts.notes) == ("float32", 2, (), ())


def test_on_a_cpu_nothing_is_timed() -> None:
    """The same calls are made and judged; no time, no state and no bandwidth is recorded."""
    found = checked(host=ON_CPU)
    assert len(found.rows) == len(KERNELS) * SHAPES * (SMALL.seeds + 1)
    for row in found.rows:
        assert row["fault"] is None and row["oracle_error"] < 1e-4 and row.get("value_ns") is None
    facts = found.facts
    assert facts.flush == "none" and facts.bandwidth_bytes_per_s == () and facts.other_processes == ()
    assert facts.replicates[0].sm_clock_max_mhz is None


def test_a_backend_competes_with_every_packed_variant() -> None:
    """The variants are those of packed SDPA, by their names; those that a CPU lacks are left out with a reason."""
    found = replicate(Job("sdpa", SMALL, ON_CPU, 0), Turn())
    refused = {left.name for left in found.facts.left_out}
    assert {f"sdpa:{name}" for name in VARIANTS} >= {row["backend"] for row in found.rows} - {"sdpa"}
    assert refused == {"sdpa:blocks", "sdpa:varlen"}
    assert all("expected a CUDA device" in left.reason for left in found.facts.left_out)
    assert all(row["fault"] is None for row in found.rows)  # it packs, and says so in its spec


def test_a_backend_that_does_not_load_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is checked in its place."""

    def damaged(name: str, machine: object, flags: object) -> Backend:
        raise BackendUnavailable(name, "its library is damaged", "delete it")

    monkeypatch.setattr(registry, "load", damaged)
    with pytest.raises(BackendUnavailable, match="its library is damaged"):
        replicate(Job("cuda", SMALL, ON_CPU, 0), Turn())


def test_the_batched_oracle_judges_all_but_the_first_seed(simulated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle that gathers nothing judges a seed of every shape, and the batched one the others and the timed calls."""
    calls: Counter[str] = Counter()
    for name in ("oracle", "selected_oracle"):
        judge = getattr(module, name)
        monkeypatch.setattr(module, name, lambda call, name=name, judge=judge: (calls.update([name]), judge(call))[1])
    checked()
    assert calls == {"oracle": SHAPES, "selected_oracle": SHAPES * SMALL.seeds}
