"""The Triton kernel's host side without a device: what it refuses, and with which launch configuration it calls."""

from __future__ import annotations

import pytest
import torch
from kernels.triton.calls import Kind, random_call
from strategies import CPU

from nsa.errors import InputError
from nsa.kernels.triton import select
from nsa.kernels.triton.plan import LaunchConfig, rule
from nsa.kernels.triton.select import SelectAttention, size_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.randn(2, 2, 4, 64)[..., ::2]}, r"q: got strides \(512, 256, 64, 2\), expected 1 in the last"),
        ({"k": torch.randn(2, 2, 32, 64).transpose(2, 3)}, r"k: got strides .*, expected 1 in the last dimension"),
        ({"v": torch.randn(2, 2, 64, 64)[..., ::2]}, r"v: got strides"),
        ({"v": torch.randn(2, 2, 64, 320)}, "v: got a width of 320, expected at most 256"),
        ({"block_indices": torch.zeros(2, 2, 3, dtype=torch.int64)}, "int64"),
        ({"block_size": 0}, "block_size: got 0"),
        ({"block_size": 2**30}, f"block_size: got {2**30} and n = 3, expected n·block_size of at most {2**30}"),
    ],
)
def test_what_it_cannot_do_is_refused(change: dict, message: str) -> None:
    """Arguments that the kernel does not take raise an InputError that names them."""
    call = {
        "q": torch.randn(2, 2, 4, 32),
        "k": torch.randn(2, 2, 64, 32),
        "v": torch.randn(2, 2, 64, 32),
        "block_indices": torch.zeros(2, 2, 3, dtype=torch.int32),
        "seq_lens": torch.ones(2, dtype=torch.int32),
        "block_size": 16,
    }
    with pytest.raises(InputError, match=message):
        SelectAttention({})(**{**call, **change})


def test_a_call_is_launched_as_tuned_for_its_size_else_by_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tuned size is launched as measured, any other by the rule, and the record says which."""
    call = random_call(5, Kind(torch.float16, 64, 64, 64, "plain"), CPU, rows=4, blocks=20)
    more = call._replace(block_indices=call.block_indices.repeat(1, 1, 2))
    size, other = (size_of(each.q, each.v, each.block_indices, each.block_size) for each in (call, more))
    config = LaunchConfig(16, 4, 2, True)
    ran: list[LaunchConfig] = []
    monkeypatch.setattr(select, "run", lambda config, *_: ran.append(config))
    kernel = SelectAttention({size: config})
    for each in (call, more, call):
        kernel(*each)
    assert ran == [config, rule(other), config]
    noted = [(row["count"], row["tokens"], row["chosen_by"]) for row in kernel.launch_configs()]
    assert noted == [(size.count, 16, "tuning"), (other.count, rule(other).tokens, "rule")]
