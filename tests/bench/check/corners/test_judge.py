"""How corner cases are run and judged: what is refused, skipped, raised or changed, and what the rows say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench.check.simulated import RIVALS, SMALL, mine
from standins import CPU, ON_CPU, in_this_process

from nsa.bench.check.corners import judge
from nsa.bench.check.corners.cases import OF_CALLS, OF_SIZES, OF_VALUES, Case
from nsa.bench.check.corners.judge import corner_rows
from nsa.bench.check.job import Job
from nsa.bench.check.replicate import check_kernel
from nsa.bench.check.stage import check
from nsa.bench.workers import Turn
from nsa.errors import InputError, KernelFailed
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.sdpa.packed import gather
from nsa.records.schemas import CHECK_REPETITIONS
from nsa.records.shapes import CheckShape
from nsa.records.words import Row

BASE = CheckShape(8, 2, 32, 32, 3, 16, 100, 2, "float32")
FEW = {name: {**OF_SIZES, **OF_VALUES, **OF_CALLS}[name] for name in ("h = 3", "sink", "two outputs held")}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three cases, one of each kind."""
    monkeypatch.setattr(judge, "cases", lambda dtype: FEW)


def rows_of(kernel: Callable[..., Any], seed: int = 5) -> dict[str, list[Row]]:
    """The rows of a kernel, by case."""
    found: dict[str, list[Row]] = {}
    for row in corner_rows("mine", kernel, gather, BASE, seed, CPU):
        found.setdefault(str(row["case"]), []).append(row)
    return found


def test_a_right_kernel_has_a_row_a_call() -> None:
    """Each with the case, the seed, the call's sizes and both errors."""
    found = rows_of(gather)
    assert {case: len(rows) for case, rows in found.items()} == {"h = 3": 1, "sink": 1, "two outputs held": 2}
    for row in (row for rows in found.values() for row in rows):
        assert set(row) <= set(CHECK_REPETITIONS.names) and (row["backend"], row["seed"]) == ("mine", 5)
        assert row["fault"] is None and row["oracle_error"] == row["sdpa_oracle_error"] and row["mae"] == 0
    assert found["h = 3"][0]["heads_per_group"] == 3


def test_sizes_may_be_refused_and_values_may_not() -> None:
    """A refusal of the grid's own sizes is a fault that rejects; one of other sizes is said."""

    def refuses(*arguments: Any) -> torch.Tensor:
        raise InputError("q: not this one")

    faults = {case: [row["fault"] for row in rows] for case, rows in rows_of(refuses).items()}
    why = "it takes the grid and refuses this call: q: not this one"
    assert faults == {"h = 3": ["refused: q: not this one"], "sink": [why], "two outputs held": [why]}


def test_an_error_is_a_fault_of_its_case() -> None:
    """A kernel that raises on one case is judged on the others."""

    def raises(*arguments: Any) -> torch.Tensor:
        if arguments[0].shape[2] == 3:
            raise RuntimeError("no instance")
        return gather(*arguments)

    found = rows_of(raises)
    assert found["h = 3"][0]["fault"] == "failed: mine: RuntimeError: no instance"
    assert found["sink"][0]["fault"] is None


def test_a_device_that_fails_ends_the_check() -> None:
    """Whatever is asked of it later fails, too."""

    def lost(*arguments: Any) -> torch.Tensor:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(KernelFailed, match="illegal memory access"):
        rows_of(lost)


@pytest.mark.parametrize("name", ["q", "k", "v", "block_indices", "seq_lens"])
def test_an_input_that_is_changed_is_a_fault(name: str) -> None:
    """Of every call whose inputs it changes."""
    place = ("q", "k", "v", "block_indices", "seq_lens").index(name)

    def changes(*arguments: Any) -> torch.Tensor:
        output = gather(*arguments)
        arguments[place].view(-1)[:1].add_(1)
        return output

    faults = [row["fault"] for rows in rows_of(changes).values() for row in rows]
    assert set(faults) == {f"the input {name} was changed"}


def test_one_buffer_is_seen_where_outputs_are_held() -> None:
    """The first of two outputs holds what the second call wrote; a single call shows nothing."""
    buffers: dict[torch.Size, torch.Tensor] = {}

    def one_buffer(*arguments: Any) -> torch.Tensor:
        output = gather(*arguments)
        return buffers.setdefault(output.shape, torch.empty_like(output)).copy_(output)

    found = rows_of(one_buffer)
    first, second = found["two outputs held"]
    assert first["oracle_error"] > 0.1 and second["oracle_error"] < 1e-5 and found["h = 3"][0]["oracle_error"] < 1e-5


def test_what_is_not_written_is_a_fault() -> None:
    """The memory of an output is full of NaN before the call; where malloc gives other memory, it is plain wrong."""

    def leaves_it(*arguments: Any) -> torch.Tensor:
        return torch.empty(*arguments[0].shape[:3], arguments[2].shape[3])

    found = [row for rows in rows_of(leaves_it).values() for row in rows]
    unwritten = [row["fault"] == "the output is not finite, or was not written everywhere" for row in found]
    assert sum(unwritten) > len(found) / 2
    assert all(seen or row["oracle_error"] > 0.1 for seen, row in zip(unwritten, found, strict=True))


def test_a_case_that_does_not_fit_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU without the memory; on a CPU it takes none."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4_000_000_000, 80_000_000_000))
    large = Case(FEW["h = 3"].draw, memory_bytes=24_000_000_000)
    reason = "4 GB of the GPU's memory are free, and the case needs 24"
    assert judge._no_memory(large, torch.device("cuda")) == reason
    assert judge._no_memory(large, CPU) is None and judge._no_memory(FEW["h = 3"], torch.device("cuda")) is None


@pytest.mark.parametrize(("process", "corners", "cases"), [(0, 7, set(FEW)), (1, 7, set()), (0, None, set())])
def test_the_first_process_tries_the_cases(process: int, corners: int | None, cases: set[str]) -> None:
    """With the seed that the stage drew; the others and a job without one try none."""
    job = Job("cuda", SMALL, ON_CPU, process, of=2, corners=corners)
    rows = check_kernel(Backend("cuda", mine), RIVALS, job, Turn(), packs=False).rows
    found = [row for row in rows if row.get("case")]
    assert {row["case"] for row in found} == cases and {row["seed"] for row in found} <= {corners}
    assert all(row["fault"] is None for row in found)


def test_every_run_has_a_seed_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows it before, and a record's column holds it."""
    monkeypatch.setattr(registry, "require", lambda name, machine, flags: None)
    jobs = in_this_process(monkeypatch, lambda job, turn: check_kernel(Backend("cuda", mine), RIVALS, job, turn, False))
    for _ in range(2):
        check("cuda", SMALL, ON_CPU, print)
    first, second = (job.corners for job in jobs)
    assert first != second and 0 <= min(first, second) and max(first, second) < 2**31
