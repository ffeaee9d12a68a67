"""The kernel check itself: every wrong kernel is rejected for the right reason, and the right one passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from standins import CPU, DIGESTS, ON_CPU, PROVENANCE
from wrong.corpus import CORPUS, right

from nsa.bench.check.job import Job
from nsa.bench.check.replicate import check_kernel
from nsa.bench.decode.routing_check import routing_fault
from nsa.bench.method.accuracy import mean_absolute_error, oracle, worst_row_error
from nsa.bench.method.inputs import full_case
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice, GateSettings
from nsa.errors import InputError
from nsa.kernels.contract import Backend, SelectAttention
from nsa.kernels.sdpa.packed import VARIANTS, gather
from nsa.records import parquet, schemas
from nsa.records.facts import CheckFacts
from nsa.records.outcome import Header, Ok
from nsa.records.shapes import CheckShape
from nsa.report.analysis.read import read_check
from nsa.report.verdict.gates import REJECT, ShapeVerdict, accept

SETTINGS = CheckSettings(
    heads_per_group=(4,),
    head_dim=(64,),
    value_dim=(32,),
    sel_count=(8,),
    dtype=DtypeByDevice(cpu="float16", cuda="float16"),
    cpu_rows=16,
    cpu_context=700,
    iters=15,
)
RIVALS = {f"sdpa:{name}": VARIANTS[name] for name in ("gather", "index_select")}


def verdict(kernel: SelectAttention, folder: Path, seed: int = 0, name: str = "cuda") -> ShapeVerdict:
    """What the gate says of a kernel on one shape, through the records, as in the pipeline."""
    found = check_kernel(Backend(name, kernel), RIVALS, Job(name, SETTINGS, ON_CPU, 0, seed=seed), Turn(), packs=False)
    header = Header[CheckFacts](
        stage="check",
        backend=name,
        device=ON_CPU.device,
        outcome=Ok(facts=found.facts),
        provenance=PROVENANCE,
        stamp=DIGESTS,
    )
    path = folder / f"check_{name}.parquet"
    parquet.write(path, found.rows, schemas.CHECK_REPETITIONS, header)
    (shape,) = accept(name, read_check(path), (), SETTINGS, GateSettings()).shapes
    return shape


@pytest.mark.parametrize("name", CORPUS)
def test_a_wrong_kernel_is_rejected_for_the_right_reason(name: str, tmp_path: Path, show_row) -> None:
    """A kernel that is wrong in this way is rejected, with the words for it."""
    wrong = CORPUS[name]()
    found = verdict(wrong.kernel, tmp_path)
    mae = found.figures.correctness.mae if found.figures.correctness else float("nan")
    shown = f"{mae:.1e}, {'passes' if mae <= 1e-3 else 'rejects'}"
    show_row(
        "wrong kernels", ("kernel", "MAE, MAE alone", "verdict"), (name, shown, f"{found.verdict}: {found.reason}")
    )
    assert found.verdict == REJECT
    assert wrong.because in found.reason


@pytest.mark.parametrize("seed", range(5))
def test_the_right_kernel_passes_whatever_the_seed(seed: int, tmp_path: Path, show_row) -> None:
    """A kernel that is right is not rejected, whatever the inputs."""
    found = verdict(right, tmp_path, seed)
    row = ("(the right kernel)", f"{found.figures.correctness.mae:.1e}", f"seed {seed}: {found.reason}")
    show_row("wrong kernels", ("kernel", "MAE, MAE alone", "verdict"), row)
    assert found.correct is True and found.verdict != REJECT


def ties_upwards(scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int) -> torch.Tensor:
    """A router that takes the higher index where scores are equal, and is right otherwise."""
    block = torch.arange(scores.shape[-1])
    current = ((seq_lens - 1) // sel_block)[..., None]
    forced = (block == 0) | (block == current) | (block == current - 1)
    key = torch.where(forced, torch.inf, scores + 1e-4 * block)
    key = torch.where(block <= current, key, -torch.inf)
    best = key.topk(min(sel_count, scores.shape[-1]))
    index = torch.where(best.values > -torch.inf, best.indices, scores.shape[-1]).sort(-1).values
    index = torch.where(index < scores.shape[-1], index, -1).int()
    return torch.nn.functional.pad(index, (0, sel_count - index.shape[-1]), value=-1)


def test_a_router_that_breaks_ties_upwards_is_seen(show_row) -> None:
    """Routing that differs from the oracle's where scores are equal is a fault."""
    assert routing_fault(CPU) is None
    fault = routing_fault(CPU, ties_upwards)
    assert fault is not None and "expected [0, " in fault
    show_row("wrong kernels", ("kernel", "MAE, MAE alone", "verdict"), ("breaks ties upwards (routing)", "–", fault))


def test_the_mean_error_alone_passes_wrong_kernels() -> None:
    """At 256 rows the mean error passes a lost token and five zero rows; the worst row's does not."""
    shape = CheckShape(256, 4, 32, 32, 16, 64, 2048, 4, "float32")
    call = full_case(shape, 0, CPU)
    packed, exact = gather(*call), oracle(call)
    lost = gather(*call._replace(seq_lens=call.seq_lens - 1))
    zeroed = packed.clone()
    zeroed.view(256, -1)[:5] = 0
    for output in (lost, zeroed):
        assert mean_absolute_error(output, packed) <= 1e-3
        assert worst_row_error(output, exact) > 100 * worst_row_error(packed, exact)


def test_a_kernel_that_refuses_a_shape_is_rejected(tmp_path: Path) -> None:
    """A shape of the grid that a backend cannot run rejects it."""

    def refuses(*arguments) -> torch.Tensor:
        raise InputError("q: got D = 64, expected 128")

    found = verdict(refuses, tmp_path)
    assert found.verdict == REJECT and "refused: q: got D = 64" in found.reason
