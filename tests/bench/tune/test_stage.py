"""The tuning stage: the fastest of the right launch_configs wins, and where nothing can be tuned the record says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from strategies import CPU

from nsa.attention import reference
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.bench.method.interleave import Candidate, Group, QueryRotation
from nsa.bench.method.shapes import CheckShape
from nsa.bench.tune import replicate as tune_race
from nsa.bench.tune import stage as tune
from nsa.bench.tune.replicate import Outcome, compare, shapes
from nsa.config import CheckSettings, Flags, RooflineSettings
from nsa.errors import KernelFailed
from nsa.kernels.triton.plan import Plan, candidates, frozen, rule
from nsa.kernels.triton.select import size_of
from nsa.machine.environment import probe
from nsa.machine.host import Host, Machine

STEP = {"rows": 2, "heads_per_group": 4, "head_dim": 32, "value_dim": 32, "sel_count": 4, "sel_block": 16, "groups": 2}
DTYPE = {"cuda": "bfloat16", "cpu": "float32"}
CHECK = CheckSettings(rows=(4,), heads_per_group=(2,), head_dim=(64,), value_dim=(32,), cpu_rows=4, cpu_context=512)
SIZES = tune.Sizes({**STEP, "dtype": DTYPE}, CHECK, RooflineSettings(rows=(4, 8), dtype="float32"))
ON_CPU = Host("cpu", "a CPU", None, Machine(None), Flags())
ON_CUDA = Host("cuda", "a GPU", "GPU-of-a-test", Machine((9, 0)), Flags())
SHAPE = CheckShape(**STEP, context=100, dtype="float32")


def right(*call: Any) -> torch.Tensor:
    """A correct kernel."""
    numbers = [tensor.numpy() for tensor in call[:5]]
    return torch.from_numpy(reference.select_attention(*numbers, call[5])).to(call[0].dtype)


def drops_the_last_block(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, indices: torch.Tensor, *rest: Any) -> Any:
    return right(q, k, v, indices[..., :-1], *rest)


def leaves_rows_unwritten(*call: Any) -> torch.Tensor:
    output = right(*call)
    output[-1] = torch.nan
    return output


def wrong_when_captured() -> Callable[..., torch.Tensor]:
    """A kernel that is right when it is judged and returns its first output ever after."""
    outputs: list[torch.Tensor] = []

    def kernel(*call: Any) -> torch.Tensor:
        outputs.append(right(*call))
        return outputs[min(1, len(outputs) - 1)].clone()

    return kernel


def with_times(monkeypatch: pytest.MonkeyPatch, nanoseconds: dict[str, int]) -> dict[str, int]:
    """Give every candidate, by its place among the candidates, a fixed time; returns how often each was timed."""
    timed = dict.fromkeys(nanoseconds, 0)

    def enter(kernels: dict[str, Any], columns: object, call: Call, *_: object) -> tuple[Group, QueryRotation]:
        outputs: dict[str, torch.Tensor] = {}
        queries = QueryRotation(call, [torch.randn_like(call.q)])

        def time(name: str, repetitions: int) -> list[int]:
            timed[name] += repetitions
            queries.refresh()
            outputs[name] = kernels[name](*call)
            return [nanoseconds[name]] * repetitions

        def candidate(name: str) -> Candidate:
            return Candidate(lambda repetitions: time(name, repetitions), lambda: outputs[name])

        return Group({}, {name: candidate(name) for name in kernels}), queries

    monkeypatch.setattr(tune_race, "enter", enter)
    return timed


PLANS = [Plan(16 * 2**place, 4, 1, False) for place in range(5)]


def test_a_wrong_cut_never_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if a cut that drops tokens, leaves rows unwritten or is wrong when timed is frozen for being fast."""
    kernels = [drops_the_last_block, leaves_rows_unwritten, wrong_when_captured(), right, right]
    with_times(monkeypatch, {"0": 1000, "1": 2000, "2": 2500, "3": 3000, "4": 3100})
    call, ragged = full_case(SHAPE, 0, CPU), ragged_case(SHAPE, 0, CPU)
    rows = compare(dict(zip(PLANS, kernels, strict=True)), call, ragged, None)
    assert [row["median_us"] for row in rows] == [None, None, 2.5, 3.0, 3.1]  # a wrong one is not even timed
    assert "off the oracle" in rows[0]["fault"] and "not finite" in rows[1]["fault"]
    assert "off the oracle" in rows[2]["fault"]
    assert [row["fault"] for row in rows[3:]] == [None, None]


def test_the_fastest_wins_and_the_slow_are_timed_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if another cut than the fastest right one is frozen, or minutes go into launch_configs that cannot win."""
    call = full_case(SHAPE, 0, CPU)
    size = size_of(call.q, call.v, call.block_indices, call.block_size)
    tried, stale = list(candidates(size)), wrong_when_captured()
    places = {f"{place}": 9000 - place for place in range(len(tried))}
    timed = with_times(monkeypatch, {**places, "1": 100_000, "2": 7000, "3": 8000})
    monkeypatch.setattr(tune_race, "run", lambda plan, *call: (stale if plan == tried[2] else right)(*call))
    row = tune_race.tune(SHAPE, CPU, None)
    assert len(row["candidates"]) == len(tried) and row["candidates"][2]["fault"]
    assert frozen({"sizes": [json.loads(json.dumps(row))]}) == {size: tried[3]}
    assert row["rule"] == row["candidates"][0]["plan"] and tried[0] == rule(size)
    assert timed["1"] == tune_race.REPETITIONS and timed["3"] == tune_race.BLOCKS * tune_race.REPETITIONS + 1


def test_without_a_right_cut_none_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the least wrong cut is frozen."""
    monkeypatch.setattr(tune_race, "run", lambda plan, *call: drops_the_last_block(*call))
    row = tune_race.tune(SHAPE, CPU, None)
    assert row["plan"] is None and all(tried["fault"] for tried in row["candidates"])


def test_every_measured_size_is_tuned_once() -> None:
    """Breaks if a decode step, a shape of the check or of the roofline is timed with a cut that nobody measured."""
    found = shapes(SIZES, "cuda")
    assert found[0] == CheckShape(**STEP, context=4096, dtype="bfloat16")
    assert CheckShape(4, 2, 64, 32, 8, 64, 4096, 4, "bfloat16") in found
    assert CheckShape(8, 16, 128, 128, 16, 64, 4096, 4, "float32") in found
    assert len(found) == len(set(found)) == 1 + 2 + 2 * 3 * 2 * 2
    wide = CheckSettings(head_dim=(512,), value_dim=(64,))
    assert len(shapes(tune.Sizes(SIZES.step, wide, SIZES.roofline), "cuda")) == len(found) - 2  # the kernel refuses it


def test_without_a_gpu_or_triton_the_record_says_so(tmp_path: Path) -> None:
    """Breaks if a machine without a GPU ends without a record, so that nothing after it would run."""
    environment, out = tmp_path / "environment.json", tmp_path / "triton.json"
    environment.write_text(json.dumps(probe() | {"cuda": False, "cpu": "a CPU"}))
    settings = {"step": dict(SIZES.step), "check": {}, "roofline": {}, "device": "cpu", "flags": {}}
    stamp = {"settings": settings, "sources": {"digest": "s"}, "settings_digest": "c", "machine_digest": "m"}
    tune.run(stamp, environment, out)
    record = json.loads(out.read_text())
    assert (record["status"], record["reason"]) == ("unavailable", "no CUDA device is visible")
    assert record["fix"] and record["sizes"] == [] and record["stamp"]["sources"] == "s"
    assert frozen(record) == {}


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (KernelFailed("an illegal memory access"), "failed"),
        (Outcome(error="out of memory"), "oom"),
        (Outcome("it"), "ok"),
    ],
)
def test_what_became_of_the_tuning_is_its_status(
    outcome: KernelFailed | Outcome, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Breaks if a tuning that crashed counts as done, or takes the pipeline with it."""

    def ends(*_: object) -> Outcome:
        if isinstance(outcome, KernelFailed):
            raise outcome
        return outcome

    monkeypatch.setattr(tune, "in_fresh_process", ends)
    record = tune.measure(SIZES, ON_CUDA, lambda line: None)
    assert record["status"] == status and record["tuned_for"] == ("it" if status == "ok" else None)
    assert (record["reason"] is None) == (record["fix"] is None) == (status == "ok")


@pytest.mark.gpu
def test_a_tuning_on_a_gpu_times_right_cuts() -> None:
    """Breaks if a candidate cannot be launched, or if the stage and the backend disagree about what is frozen."""
    host = Host.of("cuda", Flags(), probe(), {})
    record = tune.measure(SIZES, host, print)
    assert record["status"] == "ok"
    assert len(frozen(record)) == len(record["sizes"]) == len(shapes(SIZES, "cuda"))
    assert all(tried["fault"] is None for row in record["sizes"] for tried in row["candidates"])
