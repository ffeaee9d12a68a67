"""What arms really launch on a CPU: honest arms pass, and an arm that runs a part which is off does not."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from strategies import CPU
from synthetic_cell import decode_facts, launches

from nsa.attention.branches import compressed_attention, window_attention
from nsa.attention.cache import CMP, KVCache
from nsa.attention.layer import NsaAttention
from nsa.attention.prefill import fill
from nsa.bench.decode.arms import ARMS, Arm
from nsa.bench.method.launches import launched
from nsa.kernels.contract import SelectAttention
from nsa.kernels.sdpa.packed import VARIANTS, gather
from nsa.records import words
from nsa.report.verdict.checks import Check
from nsa.report.verdict.launches import skipped_part_launched
from nsa.report.verdict.words import BLOCKING
from nsa.shapes import NsaShape

SHAPE = NsaShape()
CONTEXTS = [1, 31, 32, 100, 1024, 1025, 2048]  # below l, up to n·l' and beyond; 32 and 2048 emit
Launches = dict[str, dict[str, int]]
Extra = Callable[["Step"], object]


@dataclass(frozen=True)
class Step:
    """A layer whose cache holds all tokens but the one that it decodes."""

    layer: NsaAttention
    cache: KVCache
    x: torch.Tensor
    S: int
    q: torch.Tensor  # some query, and blocks: what is made beforehand launches nothing in an arm
    blocks: torch.Tensor

    def run(self, arm: Arm, select: SelectAttention, frozen: torch.Tensor | None) -> torch.Tensor | None:
        """Decode the token; returns the blocks that were selected."""
        self.cache.set_lengths((self.S - 1,))
        return self.layer.step(self.x, self.cache, select, arm.parts, frozen if arm.frozen else None).block_indices


@functools.cache
def prefilled(S: int, phi: str = "mean") -> Step:
    """A small layer at S tokens."""
    shape = SHAPE.model_copy(update={"phi": phi})
    layer, cache = NsaAttention(shape), KVCache(shape, 1, shape.num_blocks(S) * shape.sel_block, torch.float32, CPU)
    if S > 1:
        fill(layer, torch.randn(1, S - 1, shape.dim), cache)
    q = torch.zeros(1, shape.groups, shape.heads_per_group, shape.head_dim)
    blocks = torch.zeros(1, shape.groups, shape.sel_count, dtype=torch.int32)
    return Step(layer, cache, torch.randn(1, shape.dim), S, q, blocks)


@functools.cache
def recorded(S: int, variant: str = "gather", phi: str = "mean") -> Launches:
    """What the arms of an honest step launch at S tokens."""
    return run(prefilled(S, phi), {}, variant)


@torch.no_grad()
def run(step: Step, extra: Mapping[str, Extra], variant: str = "gather") -> Launches:
    """What the arms launch, some of them with something more than they say."""
    select = VARIANTS[variant]
    frozen = step.run(ARMS["all"], select, None)

    def once(name: str) -> None:
        step.run(ARMS[name], select, frozen)
        if name in extra:
            extra[name](step)

    return {name: dict(Counter(launched(functools.partial(once, name), CPU))) for name in ARMS}


def window(step: Step) -> object:
    """The window's attention, whatever the arm says."""
    keys, v = step.layer._window(step.cache)
    return window_attention(step.q, keys.keys, v, keys.mask)


def compressed(step: Step) -> object:
    """The compressed branch's."""
    M = step.layer.shape.num_compressed(step.S)
    return compressed_attention(step.q, step.cache.k_cmp[:, :, :M], step.cache.v_cmp[:, :, :M])


def selection(step: Step) -> object:
    """Selection's, over some blocks."""
    cache = step.cache
    return gather(step.q, cache.k[CMP], cache.v[CMP], step.blocks, cache.seq_lens, step.layer.shape.sel_block)


def check(S: int, found: Launches | None) -> Check:
    """The check of a cell whose arms launched this."""
    return skipped_part_launched("sdpa/S", decode_facts(S, "cuda", 1, {"launches": found}))


@pytest.mark.parametrize("S", CONTEXTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_honest_arms_pass(S: int, variant: str) -> None:
    """No packed SDPA variant and no context has an arm that launches a part which is off."""
    found = check(S, recorded(S, variant))
    assert not found.fired, found.message


def test_an_mlp_compresses_honestly(S: int = 2048) -> None:
    """Tokens are compressed in every arm, whatever runs after it."""
    assert not check(S, recorded(S, phi="mlp")).fired


DISHONEST = {
    "window in none": {"none": window},
    "window in sel": {"sel": window},
    "window in cmp": {"cmp": window},
    "window in cmp_route": {"cmp_route": window},
    "window in every arm": dict.fromkeys(("none", "cmp", "cmp_route", "sel"), window),
    "cmp in none": {"none": compressed},
    "cmp in win": {"win": compressed},
    "cmp in every arm": dict.fromkeys(("none", "sel", "win"), compressed),
    "sel in none": {"none": selection},
    "sel in all_without_sel": {"all_without_sel": selection},
    "sel in cmp_route": {"cmp_route": selection},
    "sel in every arm": dict.fromkeys(("none", "cmp", "cmp_route", "win", "all_without_sel"), selection),
}


@pytest.mark.parametrize(
    ("S", "case"),
    [(S, case) for S in (31, 1024, 2048) for case in DISHONEST if S >= SHAPE.cmp_block or not case.startswith("cmp")],
)
def test_a_part_that_runs_although_it_is_off_is_seen(S: int, case: str) -> None:
    """A window, a compressed branch or a selection in an arm that says it is off blocks the cell."""
    found = check(S, run(prefilled(S), DISHONEST[case]))
    assert (found.fired, found.severity) == (True, BLOCKING)


def test_the_message_names_the_arm_the_kernel_and_the_part() -> None:
    """Who reads the message knows where to look."""
    found = check(2048, run(prefilled(2048), {"sel": window}))
    kernel = "_scaled_dot_product_flash_attention_for_cpu"
    assert f"arm sel launched {kernel} 2 times, at most 1 without cmp, route, win" in found.message
    both = check(2048, run(prefilled(2048), DISHONEST["window in every arm"]))
    assert "arm win launched nothing that arm none did not: win runs in both, or in none" in both.message


def test_a_kernel_that_two_parts_share_hides_neither() -> None:
    """Packed SDPA and the window launch one kernel: an arm without both may launch it not once."""
    kernel = "_scaled_dot_product_flash_attention_for_cpu"
    honest = recorded(2048)
    assert (honest["sel"][kernel], honest["win"][kernel], honest["all"][kernel]) == (1, 1, 2)
    found = check(2048, run(prefilled(2048), {"cmp": window}))
    assert f"arm cmp launched {kernel} 1 times, at most 0 without route, sel, win" in found.message


@pytest.mark.parametrize("part", ["cmp", "sel", "win"])
def test_a_part_that_launches_nothing_is_seen(part: str) -> None:
    """A part whose arm launches what the arm without it does has not been measured."""
    found = {**recorded(2048), part: recorded(2048)["none"]}
    assert check(2048, found).fired
    assert f"arm {part} launched nothing that arm none did not" in check(2048, found).message


def test_routing_that_launches_nothing_is_seen() -> None:
    """So is routing, beside the compressed branch."""
    found = {**recorded(2048), "cmp_route": recorded(2048)["cmp"]}
    assert "arm cmp_route launched nothing that arm cmp did not" in check(2048, found).message


def test_below_the_first_compressed_token_its_branch_may_launch_nothing() -> None:
    """S < l: arm cmp is arm none, and that is no fault; from l on it is one."""
    below = recorded(31)
    assert below["cmp"] == below["none"]
    assert not check(31, below).fired
    assert check(32, {**recorded(32), "cmp": recorded(32)["none"]}).fired


def test_launches_that_were_not_counted_block() -> None:
    """A cell without its launches, or without those of an arm, proves nothing."""
    some = recorded(2048)
    for missing in (None, {arm: found for arm, found in some.items() if arm != "win"}):
        assert check(2048, missing).fired
        assert "was not counted" in check(2048, missing).message


def test_cudas_gated_sum_is_kept_apart() -> None:
    """PyTorch's elementwise kernels multiply the first branch and add the others: a launch a branch."""
    names = {
        "mul.Tensor": "void at::native::elementwise_kernel<128, 4, at::native::BinaryFunctor<MulFunctor<float> > >",
        "addcmul": "void at::native::vectorized_elementwise_kernel<4, at::native::addcmul_cuda_scalar_tensor2_kernel>",
    }
    found = {
        arm: {names.get(kernel, kernel): n for kernel, n in kernels.items()} for arm, kernels in launches().items()
    }
    assert not check(2048, found).fired


ONE = {  # a core of one launch, whose parts are in its template
    name: {"gemm": 2, "token": 1, **({f"core<{'+'.join(on)}>": 1} if on else {})} for name, on in words.ARMS.items()
}


def core_check(**changes: object) -> Check:
    """The check of a cell that runs through a core."""
    facts = {"contract": "core", "launches": ONE, **changes}
    return skipped_part_launched("fused/S", decode_facts(1024, "cuda", 1, facts))


def test_a_core_of_one_launch_passes() -> None:
    """Arms differ in the core's template alone, by whose name the profiler tells them apart."""
    assert not core_check().fired


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"launches": {**ONE, "sel": {"gemm": 2, "token": 1}}}, "arm sel launched nothing"),
        ({"launches": {**ONE, "win": {"gemm": 2, "token": 1, "core": 2}}}, "arm win launched 5"),
        ({"off_unread": False}, "an output changes with the caches of parts that are off"),
        ({"launches": None}, "not counted"),
    ],
)
def test_a_core_that_does_more_or_less_is_seen(changes: dict[str, object], said: str) -> None:
    """An arm that launches nothing, one that launches more than the whole step, and one that reads what is off."""
    made = core_check(**changes)
    assert made.fired and said in made.message


FUSED_SUM = {  # one launch sums the branches that ran, in the arm without any as well: it is fixed work
    name: {"gemm": 2, "gated_sum": 1, **{part: 1 for part in on}} for name, on in words.ARMS.items()
}


def test_a_gated_sum_of_one_launch_is_each_arms_own() -> None:
    """Every arm may launch it once, and none twice; so may one that has none where there is no branch."""
    assert not check(1024, FUSED_SUM).fired
    assert not check(1024, {**FUSED_SUM, "none": {"gemm": 2}}).fired
    assert check(1024, {**FUSED_SUM, "win": {**FUSED_SUM["win"], "gated_sum": 2}}).fired
