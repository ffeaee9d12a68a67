"""What a kernel does when it is asked again, which one right output does not show."""

from __future__ import annotations

from typing import Any

import torch
from standins import CPU

from nsa.bench.method.behaviour import follows_its_inputs, is_packed_sdpa, reads_what_it_is_given, repeats
from nsa.bench.method.inputs import ragged_case
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.records.shapes import CheckShape

SHAPE = CheckShape(8, 2, 32, 32, 3, 16, 100, 2, "float32")


def test_the_right_kernel_shows_no_fault() -> None:
    """Every question is answered with nothing."""
    call = ragged_case(SHAPE, 0, CPU)
    assert repeats(gather, call) is None
    assert reads_what_it_is_given(gather, call) is None
    assert is_packed_sdpa("gather", {"gather": gather, "sdpa:index_select": index_select}, call) is None
    assert follows_its_inputs(gather, call) is None


def test_a_kernel_that_differs_between_calls_is_seen() -> None:
    """One call of several that differs in one bit is enough."""
    calls = 0

    def third_differs(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        output = gather(*arguments)
        return torch.nextafter(output, output + 1) if calls == 3 else output

    found = repeats(third_differs, ragged_case(SHAPE, 0, CPU))
    assert found == "two calls on the same inputs differ: nondeterministic or stale"


def test_a_kernel_that_keeps_an_input_is_seen_by_its_name() -> None:
    """Each of q, k and v is changed in place, at its address; whichever is not followed is named."""
    for place, name in enumerate("qkv"):
        kept: dict[int, torch.Tensor] = {}

        def stale(*arguments: Any, place: int = place, kept: dict[int, torch.Tensor] = kept) -> torch.Tensor:
            own = [*arguments]
            own[place] = kept.setdefault(own[place].data_ptr(), own[place].clone())
            return gather(*own)

        found = follows_its_inputs(stale, ragged_case(SHAPE, 0, CPU))
        assert found == f"{name} changed in place and the output did not follow: cached or stale"


def test_a_kernel_that_reads_other_tokens_is_seen() -> None:
    """The first row that differs is named with both counts, and how many there are."""

    def one_fewer(q, k, v, blocks, lens, size):
        return gather(q, k, v, blocks, lens - 1, size)

    found = reads_what_it_is_given(one_fewer, ragged_case(SHAPE, 0, CPU))
    assert found is not None and found.startswith("reads ") and " of 8 rows differ)" in found


def test_packed_sdpa_under_another_name_is_seen() -> None:
    """A kernel that launches what a variant launches is named with that variant."""
    kernels = {"mine": lambda *arguments: gather(*arguments), "sdpa:index_select": index_select, "sdpa:gather": gather}
    found = is_packed_sdpa("mine", kernels, ragged_case(SHAPE, 0, CPU))
    assert found == "mine launches exactly what sdpa:gather launches: it is packed SDPA under another name"
