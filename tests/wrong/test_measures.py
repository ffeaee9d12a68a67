"""What no kernel of the corpora shows: the mean error alone, a router that is wrong, a kernel that refuses the grid."""

from __future__ import annotations

import torch
from standins import CPU
from wrong.kernels import right
from wrong.trial import SETTINGS, tried

from nsa.bench.decode.routing_check import routing_fault
from nsa.bench.method.accuracy import mean_absolute_error, oracle, worst_row_error
from nsa.bench.method.inputs import full_case
from nsa.errors import InputError
from nsa.kernels.sdpa.packed import gather
from nsa.records.shapes import CheckShape
from nsa.report.verdict.words import REJECT


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


def test_a_router_that_breaks_ties_upwards_is_seen() -> None:
    """Routing that differs from the oracle's where scores are equal is a fault."""
    assert routing_fault(CPU) is None
    fault = routing_fault(CPU, ties_upwards)
    assert fault is not None and "expected [0, " in fault


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


def test_a_kernel_that_refuses_the_grid_is_rejected() -> None:
    """A shape of the grid that a backend cannot run rejects it; a corner case of other sizes does not."""

    def refuses(*arguments) -> torch.Tensor:
        if arguments[0].shape[2] in SETTINGS.heads_per_group:
            raise InputError("q: got h = 4, expected another")
        return right(*arguments)

    accept = tried(refuses).accept
    assert accept is not None
    (shape,) = accept.shapes
    assert shape.verdict == REJECT and "refused: q: got h = 4" in shape.reason

    def refuses_more(*arguments) -> torch.Tensor:
        if arguments[0].shape[2] == 16:
            raise InputError("q: got h = 16, expected fewer")
        return right(*arguments)

    trial = tried(refuses_more)
    assert trial.found == {} and trial.accept is not None
    refused = [corner for corner in trial.accept.corners if corner.status == "refused"]
    assert [(corner.case, corner.reason) for corner in refused] == [("h = 16", "q: got h = 16, expected fewer")]
