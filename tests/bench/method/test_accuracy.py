"""The judge of kernels: its float64 oracle, its inputs, and the faults it must see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from strategies import CPU

from nsa.attention import reference
from nsa.bench.check.replicate import Job, contest
from nsa.bench.method.accuracy import fault, mean_absolute_error, oracle, run_poisoned, worst_row_error
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.bench.method.shapes import CheckShape, grid
from nsa.config import CheckSettings, Flags
from nsa.kernels.sdpa.packed import VARIANTS, gather
from nsa.machine.host import Host, Machine

SHAPE = CheckShape(24, 4, 32, 64, 6, 16, 200, 4, "float32")


def test_the_fast_oracle_equals_the_loops() -> None:
    """Breaks if the judge of a thousand rows disagrees with the oracle that is checked by hand."""
    for seed in range(5):
        call = ragged_case(SHAPE, seed, CPU)
        numbers = [tensor.double().numpy() for tensor in call[:3]]
        exact = reference.select_attention(*numbers, call[3].numpy(), call[4].numpy(), call[5])
        np.testing.assert_allclose(oracle(call).numpy(), exact, atol=1e-12)


def test_ragged_cases_hold_every_edge_of_the_contract() -> None:
    """Breaks if the check never shows a kernel an empty row, a partial block, padding or poison."""
    call = ragged_case(SHAPE, 0, CPU)
    lengths, indices = call.seq_lens.tolist(), call.block_indices
    assert {200, 0, 1} <= set(lengths) and any(S % 16 for S in lengths)
    assert (indices == -1).all(-1).any() and (indices[..., -1] >= 0).any()
    for b, S in enumerate(lengths):
        assert call.k[b, :, S:].isnan().all() and call.k[b, :, :S].isfinite().all()
        for g in range(4):
            chosen = [i for i in indices[b, g].tolist() if i >= 0]
            assert chosen == sorted(set(chosen)) and all(i * 16 < S for i in chosen)
            assert indices[b, g].tolist() == chosen + [-1] * (6 - len(chosen))
    full = full_case(SHAPE, 1, CPU)
    assert (full.seq_lens == 200).all() and (full.block_indices >= 0).all()
    assert (full.block_indices[..., -1] == 12).all()  # the current, partial block
    assert not torch.equal(full.q, full_case(SHAPE, 2, CPU).q)


def test_the_grid_is_the_guides() -> None:
    """Breaks if a shape of the acceptance grid is left out."""
    assert len(set(grid(CheckSettings(), "cuda"))) == 32
    assert len(grid(CheckSettings(), "cpu")) == 16  # correctness does not depend on the rows


def wrong(change):
    """A kernel that is right but for one change of its output or inputs."""

    def kernel(*arguments):
        call = Call(*arguments)
        output = gather(*call)
        return change(call, output)

    return kernel


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda call, o: o.double(), "float64"),
        (lambda call, o: o[:, :, :2], "expected"),
        (lambda call, o: o.index_fill(0, torch.tensor([2]), torch.nan), "not finite"),
        (lambda call, o: torch.empty_like(o), "not finite"),  # never written: the poison shows
        (lambda call, o: o + 1e-6, "not exactly zero"),
        (lambda call, o: (call.q.mul_(2), o)[1], "input q was changed"),
        (lambda call, o: (call.block_indices.clamp_(min=0), o)[1], "input block_indices was changed"),
    ],
)
def test_faults_are_seen(change, message: str) -> None:
    """Breaks if a kernel with this fault would pass."""
    _, found = run_poisoned(wrong(change), ragged_case(SHAPE, 3, CPU))
    assert found is not None and message in found


def test_a_right_kernel_has_no_fault_and_a_small_error() -> None:
    """Breaks if the check rejects everything."""
    call = ragged_case(SHAPE, 4, CPU)
    output, found = run_poisoned(gather, call)
    assert found is None and fault(output, call) is None
    assert worst_row_error(output, oracle(call)) < 1e-5


def test_the_worst_row_shows_what_the_mean_hides() -> None:
    """Breaks if a kernel that zeroes one row of many passes by its mean error."""
    call = full_case(SHAPE, 5, CPU)
    output, exact = gather(*call), oracle(call)
    broken = output.clone()
    broken[3, 1, 2] = 0
    assert mean_absolute_error(broken, output) < 3e-3
    assert worst_row_error(broken, exact) == pytest.approx(1.0)


def test_a_contest_judges_the_backend_and_every_packed_variant() -> None:
    """Breaks if a variant does not compete, or a shape or a seed is skipped."""
    settings = CheckSettings(
        heads_per_group=(2,), head_dim=(32,), value_dim=(32, 64), sel_count=(4,), cpu_context=300, seeds=2, cpu_rows=8
    )
    found = contest(Job("sdpa", settings, Host("cpu", "a CPU", None, Machine(None), Flags()), 0))
    assert found.error is None and found.other_processes == []
    competing = {f"sdpa:{name}" for name in VARIANTS} - set(found.left_out)
    assert len(competing) >= 2
    assert {row["backend"] for row in found.rows} == {"sdpa", *competing}
    judged = len({"sdpa", *competing}) * 2 * (2 + 1)  # kernels, shapes, seeds and the timed calls
    assert len(found.rows) == judged
    for row in found.rows:
        assert row["fault"] is None and row["oracle_error"] < 1e-4 and row.get("value_ns") is None
