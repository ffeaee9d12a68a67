"""What falls to each process of the tuning: the sizes that will be measured, and the kernels that it compiles."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from standins import CPU, ON_CPU
from triton.runtime.errors import OutOfResources

from nsa.bench.method.inputs import full_case
from nsa.bench.tune import replicate as module
from nsa.bench.tune.job import Job, Sizes, StepSizes, TunedSize
from nsa.bench.tune.replicate import compile_share, replicate, shapes
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice, RooflineSettings
from nsa.errors import KernelFailed
from nsa.kernels.compiling import NotCompiled
from nsa.kernels.triton.plan import LaunchConfig, Size, candidates, rule
from nsa.kernels.triton.select import size_of
from nsa.records.shapes import CheckShape

STEP = StepSizes(
    rows=2, heads_per_group=4, head_dim=32, value_dim=32, sel_count=4, sel_block=16, groups=2, dtype=DtypeByDevice()
)
CHECK = CheckSettings(rows=(4,), heads_per_group=(2,), head_dim=(64,), value_dim=(32,), cpu_rows=4, cpu_context=512)
SIZES = Sizes(STEP, CHECK, RooflineSettings(rows=(4, 8), dtype="float32"))


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
            raise OutOfResources(300_000, 232_448, "shared memory")

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
