"""What a selection kernel does when it is asked again: the behaviour that one right output does not show.

Each function returns the fault that it saw, as one phrase, or None.
"""

from __future__ import annotations

from collections.abc import Mapping

from nsa.bench.method.accuracy import same_bits
from nsa.bench.method.inputs import Call
from nsa.bench.method.reads import selected_by_kernel, selected_by_tensors
from nsa.bench.method.remote import launched_by
from nsa.kernels.contract import SelectAttention

REPLAYS = 3


def repeats(kernel: SelectAttention, call: Call) -> str | None:
    """The same inputs give the same bits on every call."""
    first = kernel(*call).clone()
    for _ in range(REPLAYS):
        if not same_bits(kernel(*call), first):
            return "two calls on the same inputs differ: nondeterministic or stale"
    return None


def follows_its_inputs(kernel: SelectAttention, call: Call) -> str | None:
    """Inputs changed in place, at the same addresses, change the output: nothing is cached by pointer."""
    before = kernel(*call).clone()
    for name, tensor in zip(Call._fields, call[:3], strict=False):
        tensor.copy_(tensor.flip(-1))
        after = kernel(*call).clone()
        if same_bits(after, before):
            return f"{name} changed in place and the output did not follow: cached or stale"
        before = after
    return None


def reads_what_it_is_given(kernel: SelectAttention, call: Call) -> str | None:
    """The tokens that reach the output are those of the index tensor and the lengths, each once."""
    _, _, h, D = call.q.shape
    sizes, capacity = (h, D, call.v.shape[3]), call.k.shape[2]
    actual = selected_by_kernel(kernel, call.block_indices, call.seq_lens, call.block_size, capacity, sizes, call.q)
    expected = selected_by_tensors(call.block_indices, call.seq_lens, call.block_size)
    wrong = (actual != expected).nonzero()
    if len(wrong) == 0:
        return None
    b, g = wrong[0].tolist()
    return (
        f"reads {actual[b, g]:.0f} tokens where it was given {expected[b, g]:.0f} (sequence {b}, group {g}; "
        f"{len(wrong)} of {expected.numel()} rows differ)"
    )


def is_packed_sdpa(name: str, kernels: Mapping[str, SelectAttention], call: Call) -> str | None:
    """A kernel that launches exactly what a packed SDPA variant launches is that variant under another name."""
    launches = {each: sorted(launched_by(kernel, call)) for each, kernel in kernels.items()}
    for rival, names in launches.items():
        if rival != name and names == launches[name]:
            return f"{name} launches exactly what {rival} launches: it is packed SDPA under another name"
    return None
