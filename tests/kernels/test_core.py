"""The door of the decode-core contract: a bad call is one line that names the argument."""

from __future__ import annotations

import pytest
import torch
from cores import Case, case, paper

from nsa.errors import ConfigError, InputError
from nsa.kernels.core import Parts, Sizes, check_core


def checked(call: Case, out: torch.Tensor | None = None) -> None:
    """The check of one call."""
    arguments = call._asdict()
    del arguments["parts"]
    check_core(**arguments, out=out)


@pytest.fixture
def call() -> Case:
    """A call that is right."""
    return case(paper((100, 64)), 0, torch.device("cpu"))


def test_a_right_call_passes(call: Case) -> None:
    """One stacked tensor and the three branches' own caches are both fine."""
    checked(call)
    checked(call._replace(k=tuple(call.k), v=tuple(call.v)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (lambda c: c._replace(q=c.q[0]), r"q: got shape .* expected \[B, G, h, D\]"),
        (lambda c: c._replace(k=c.k[:2]), r"k: got .* expected \[3, B, G, S, D\]"),
        (lambda c: c._replace(gates=c.gates[..., :2]), r"gates: got shape \(2, 4, 16, 2\), expected \[2, 4, 16, 3\]"),
        (lambda c: c._replace(v=c.v[:, :, :, :50]), r"v\[1\]: got shape .* expected \[2, 4, 100, 128\]"),
        (lambda c: c._replace(gates=c.gates.float()), "gates: got torch.float32, expected torch.bfloat16"),
        (lambda c: c._replace(seq_lens=c.seq_lens.long()), "seq_lens: got torch.int64, expected torch.int32"),
        (lambda c: c._replace(block_indices=c.block_indices[..., :4]), "block_indices: got shape"),
        (lambda c: c._replace(k_cmp=c.k_cmp[:, :, :3], v_cmp=c.v_cmp[:, :, :3]), "k_cmp: got room for 3 .* least 5"),
        (lambda c: c._replace(sizes=Sizes(32, 16, 40, 16, 512)), "sizes.sel_block: got 40, expected a multiple"),
        (lambda c: c._replace(sizes=Sizes(32, 16, 64, 2, 512)), "sizes.sel_count: got 2, expected 3 to 128"),
        (lambda c: c._replace(sizes=Sizes(32, 16, 64, 16, -1)), "sizes.window: got -1, expected 0 or more"),
        (lambda c: c._replace(q=c.q[..., :40], k=c.k[..., :40], k_cmp=c.k_cmp[..., :40]), "D, Dv: got 40 and 128"),
    ],
)
def test_a_bad_call_is_refused(call: Case, changed: object, said: str) -> None:
    """Each argument that does not fit is named, with what was expected."""
    assert callable(changed)
    with pytest.raises(InputError, match=said):
        checked(changed(call))


def test_routing_needs_the_compressed_branch() -> None:
    """Parts that cannot run are refused where they are made."""
    with pytest.raises(ConfigError, match=r"Parts\.route"):
        Parts(cmp=False)
