"""The fused core as a backend: what it needs, and its door."""

from __future__ import annotations

import pytest
import torch
from cores import case, paper

from nsa.config import Flags
from nsa.errors import BackendUnavailable, InputError
from nsa.kernels.fused import backend, operator
from nsa.kernels.fused.spec import SPEC
from nsa.machine.host import Artifact, Machine

BUILT: Artifact = {"status": "built", "library": "absent.so", "library_sha256": "0", "archs": ["90a"]}


def test_the_spec_offers_a_core_and_nothing_else() -> None:
    """A backend may have a core without a selection kernel."""
    assert SPEC.contracts == {"core"}


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (Machine(None, {}), "no CUDA device is visible"),
        (Machine((7, 5), {"fused": BUILT}), "compute capability 7.5 is below 8.0"),
        (Machine((9, 0), {}), "its extension has not been built"),
        (Machine((8, 9), {"fused": BUILT}), "its extension has no code for sm_89, only for 90a"),
        (Machine((9, 0), {"fused": BUILT}), "its library absent.so is missing"),
    ],
)
def test_where_it_cannot_run_it_says_why(machine: Machine, reason: str) -> None:
    """No device, one that is too old, no build, a foreign one, a library that is gone."""
    with pytest.raises(BackendUnavailable) as caught:
        backend.require(machine, Flags())
    assert caught.value.reason == reason


def test_bad_calls_are_refused_before_the_kernel() -> None:
    """What the kernels were not built for is one line that names the argument."""
    call = case(paper((100,)), 0, torch.device("cpu"))
    floats = {name: t.float() for name, t in call._asdict().items() if torch.is_tensor(t) and t.is_floating_point()}
    with pytest.raises(InputError, match="got float32, expected float16 or bfloat16"):
        operator.decode_core(*call._replace(**floats))
    odd = torch.randn(1, 4, 100, 132).bfloat16()[..., :128]
    with pytest.raises(InputError, match=r"k\[2\]: got strides .* expected a contiguous last dimension"):
        operator.decode_core(*call._replace(k=[call.k[0], call.k[1], odd]))
    with pytest.raises(InputError, match="gates: got strides"):
        operator.decode_core(*call._replace(gates=call.gates.transpose(2, 3).contiguous().transpose(2, 3)))
