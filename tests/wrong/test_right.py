"""The kernel check of right kernels: none is rejected, whatever the seed."""

from __future__ import annotations

import pytest
from wrong.judgement import ShowRow
from wrong.kernels import HONEST, kernel
from wrong.trial import on_a_gpu, tried

from nsa.errors import BackendUnavailable
from nsa.kernels import registry, varlen
from nsa.kernels.contract import SelectAttention
from nsa.kernels.sdpa.packed import VARIANTS
from nsa.machine.host import Host

SEEDS = range(3)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", HONEST)
def test_a_right_kernel_passes_whatever_the_seed(name: str, seed: int, show_row: ShowRow) -> None:
    """Dense, streamed or with rounded probabilities: no check rejects it, on the grid or in a corner."""
    trial = tried(HONEST[name], seed)
    assert trial.accept is not None
    errors = [corner.oracle_error / corner.allowed for corner in trial.accept.corners if corner.allowed]
    header = ("kernel", "seed", "corner cases", "largest share of the allowed error")
    show_row("right kernels", header, (name, str(seed), str(len(errors)), f"{max(errors):.2f}"))
    assert trial.found == {} and trial.accept.wrong_shapes == []
    assert {corner.status for corner in trial.accept.corners} == {"right"}


def test_a_right_output_may_lie_in_any_order() -> None:
    """Bits are compared number by number, however the heads lie."""
    across = kernel(output=lambda call, o: o.to(call.q.dtype).transpose(2, 3).contiguous().transpose(2, 3))
    trial = tried(across, corners=("h = 3",))
    assert trial.accept is not None and trial.found == {}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", VARIANTS)
def test_packed_sdpa_passes_whatever_the_seed(name: str, seed: int) -> None:
    """Both variants that a CPU has are right; what they do not take they refuse."""
    trial = tried(VARIANTS[name], seed, packs=True)
    assert trial.accept is not None and trial.found == {}
    assert {corner.status for corner in trial.accept.corners} <= {"right", "refused"}


@pytest.mark.gpu
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["triton", "fa2", "varlen", "streaming"])
def test_a_backend_passes_on_a_gpu_whatever_the_seed(name: str, seed: int) -> None:
    """Nothing rejects it but, where it is slow, its speed; the cuda backend's own build is tried by a decision run."""
    host = on_a_gpu()
    trial = tried(of_this_gpu(name, host), seed, host=host, packs=name in ("fa2", "varlen"))
    assert trial.found.keys() <= {"speed"}


def of_this_gpu(name: str, host: Host) -> SelectAttention:
    """A kernel of this machine, or a skipped test."""
    if name == "varlen":
        return varlen.flash
    if name in HONEST:
        return HONEST[name]
    try:
        return registry.load(name, host.machine, host.flags).selection
    except BackendUnavailable as error:
        pytest.skip(str(error))
