"""The core check on a CPU: the composed core is right everywhere, and each wrong one is rejected for its own reason."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import wrong_cores
from standins import CPU, ON_CPU, Sampler, Timer
from wrong_cores import WRONG
from wrong_cores_borders import AT_BORDERS
from wrong_cores_kept import RIGHT
from wrong_cores_off_grid import OFF_GRID

from nsa.bench.apart import burst
from nsa.bench.core import dense
from nsa.bench.core.corner_cases import CORNERS
from nsa.bench.core.job import Job
from nsa.bench.core.remote import RemoteCore
from nsa.bench.core.replicate import check_core, here
from nsa.bench.core.shape import Run, shape_rows
from nsa.bench.method.control import Control
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CoreSettings, GateSettings
from nsa.errors import InputError, KernelFailed
from nsa.kernels.contract import Backend
from nsa.kernels.core import SEL
from nsa.records import parquet, schemas
from nsa.records.facts import CoreBurst, CoreFacts
from nsa.records.grids import core_grid
from nsa.records.outcome import Header, Ok
from nsa.report.analysis.core import read_core
from nsa.report.verdict.cores import accept_core

SMALL = CoreSettings(
    head_dim=(32,),
    value_dim=32,
    groups=1,
    heads_per_group=4,
    sel_count=4,
    window=100,
    cpu_batch=2,
    cpu_context=420,
    draws=1,
)
FEW = (
    "h = 1",
    "n = 3",
    "w = 0",
    "blocks of equal importance",
    "no token",
    "caches in one tensor",
    "shorter, then longer",
)


@pytest.fixture
def few_corners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some corner cases, at fewer tokens."""
    some = {name: CORNERS[name] for name in FEW}
    monkeypatch.setattr("nsa.bench.core.corners.CORNERS", some)


def checked(core: Any, corners: int | None = 5, settings: CoreSettings = SMALL) -> Replicated[CoreFacts]:
    return check_core(Job("mine", settings, ON_CPU, 0, corners=corners), Turn(), Backend("mine", core=core))


def verdict(core: Any, lab: Any) -> Any:
    """What the report's verdict says of a core that was checked here."""
    from synthetic import ABOUT, STAMP

    found = checked(core)
    header = Header[CoreFacts](
        stage="core", backend="mine", device=ON_CPU.device, outcome=Ok(facts=found.facts), provenance=ABOUT, stamp=STAMP
    )
    path = lab / "mine.parquet"
    parquet.write(path, found.rows, schemas.CORE, header)
    return accept_core("mine", read_core(path), (), SMALL, GateSettings())


def test_the_composed_core_is_right_on_every_input(few_corners: None, tmp_path: Any) -> None:
    """On a CPU nothing is timed, and every shape and corner case is right; the record keeps what was judged."""
    found = verdict(RIGHT, tmp_path)
    assert found.verdict == "NOT MEASURED" and found.wrong_shapes == []
    assert f"on the CPU 1 of 1 shapes and {len(FEW)} of {len(FEW)} corner cases are correct" in found.reason


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_core_is_rejected_for_its_own_reason(name: str, few_corners: None, tmp_path: Any) -> None:
    """Each is named with the fault or the figures that show it."""
    make, said = WRONG[name]
    try:
        found = verdict(make(), tmp_path)
    except KernelFailed as failure:
        assert re.search(said, str(failure))
        return
    assert found.verdict == "REJECT" and re.search(said, found.reason), found.reason


@pytest.mark.parametrize("name", OFF_GRID | AT_BORDERS)
def test_a_core_that_is_wrong_off_the_grid_is_rejected_there(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """By the corner case that is made for it; it is right on the grid, and on a case beside it."""
    make, case, said = (OFF_GRID | AT_BORDERS)[name]
    beside = "w = 1"
    monkeypatch.setattr("nsa.bench.core.corners.CORNERS", {each: CORNERS[each] for each in (beside, case)})
    found = verdict(make(), tmp_path)
    assert found.verdict == "REJECT" and found.wrong_shapes == [f"corner case {case}"], found.reason
    assert re.search(said, found.reason), found.reason


def test_what_a_core_refuses_is_not_counted_as_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Sizes and strides may be refused; lengths and values of sizes that it takes may not."""
    taken = {name: CORNERS[name] for name in ("h = 3", "values apart", "no token")}
    monkeypatch.setattr("nsa.bench.core.corners.CORNERS", taken)

    def refuses(*given: Any) -> torch.Tensor:
        if given[0].shape[2] == 3 or not given[3][SEL].is_contiguous():
            raise InputError("strides and sizes")
        return RIGHT(*given)

    assert "1 of 1 shapes and 1 of 3 corner cases are correct" in verdict(refuses, tmp_path).reason


def test_a_core_that_refuses_unseen_lengths_is_rejected() -> None:
    """It took the shape."""

    def refuses(*given: Any) -> torch.Tensor:
        if 419 in given[6].tolist():
            raise InputError("seq_lens: odd")
        return RIGHT(*given)

    faults = {row["case"]: row["fault"] for row in checked(refuses, corners=None).rows if row["backend"] == "mine"}
    assert faults == {"timed": None, "unseen": "it takes the grid and refuses this call: seq_lens: odd"}


def test_exponents_that_are_far_apart_are_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A core whose routing overflows at huge scores is rejected by the case that has them, and by none beside it."""
    huge = "queries x 30, many sequences"
    monkeypatch.setattr("nsa.bench.core.corners.CORNERS", {name: CORNERS[name] for name in ("h = 1", huge)})
    assert verdict(RIGHT, tmp_path).verdict == "NOT MEASURED"
    found = verdict(wrong_cores.upwards, tmp_path)
    assert found.verdict == "REJECT" and found.reason.startswith(f"corner case {huge}: "), found.reason


def test_a_core_that_refuses_the_shape_has_a_row_with_the_reason() -> None:
    """A refusal is no failure of the run; the verdict rejects it with the reason."""

    def refuses(*_: Any) -> torch.Tensor:
        raise InputError("q: got float32, expected float16")

    (row,) = checked(refuses, corners=None).rows
    assert row["fault"] == "refused: q: got float32, expected float16" and row["case"] == "timed"


def test_everything_is_timed_equally_often_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core twice, the composed core and each kernel of dense attention: as many repetitions, each one judged."""
    shape = core_grid(SMALL, "cpu")[0]
    settings = SMALL.model_copy(update={"iters": 4})
    left_out: list[Any] = []
    bursts: list[CoreBurst] = []
    timer: Any = Timer()
    kernels, _ = dense.kernels()
    rivals = {"flash": kernels["flash"], "cudnn": kernels["cudnn"]}
    sampler: Any = Sampler()
    job = Job("mine", settings, ON_CPU, 0)
    monkeypatch.setattr("nsa.bench.apart.server.CudaTimer", Timer)
    monkeypatch.setattr(burst, "MOST_REPLAYS", 20)
    monkeypatch.setattr(burst, "MOST_QUERIES", 20)
    core = RemoteCore(here(job, lambda: Backend("mine", core=RIGHT), CPU, True), CPU, 1 << 20, True)
    run = Run(job, CPU, core, timer, Turn(), sampler, None, Control(timer), rivals, left_out, bursts)
    rows = shape_rows(shape, 0, run)
    counts: dict[str, int] = {}
    for row in rows:
        if row.get("value_ns") is not None:
            counts[str(row["backend"])] = counts.get(str(row["backend"]), 0) + 1
    assert counts == {"mine": 4, "again:mine": 4, "composed": 4, "dense:flash": 4, "empty": 4} | {
        "control:train": 12,
        "control:copy": 12,
    }
    judged = {row["backend"]: row for row in rows if row.get("case") == "timed"}
    assert set(judged) == {"mine", "composed", "dense:flash"}
    assert all(row["judged"] == 4 and row["fault"] is None and row["error"] < 1e-4 for row in judged.values())
    tokens = (
        25 + (4 * 64 - 28) + 100
    )  # of the compressed branch, the selected blocks, the last of them partial, the window
    assert judged["mine"]["floor_bytes"] == 2 * tokens * 64 * 4
    assert judged["dense:flash"]["floor_bytes"] == 2 * 420 * 64 * 4
    assert [(each.replays, each.queries, each.shape) for each in bursts] == [(20, 1, shape), (20, 20, shape)]
    assert [(left.name, left.shape) for left in left_out] == [("dense:cudnn", "B=2 S=420 D=32 Dv=32")]


def test_a_curve_judges_what_is_timed_and_nothing_else() -> None:
    """Neither unseen inputs nor corner cases are in its rows."""
    rows = check_core(Job("mine", SMALL, ON_CPU, 0, timed_only=True), Turn(), Backend("mine", core=RIGHT)).rows
    assert {(row["backend"], row["case"], row["fault"]) for row in rows} == {
        ("mine", "timed", None),
        ("composed", "timed", None),
    }
    assert {row["case"] for row in checked(RIGHT, corners=None).rows} == {"timed", "unseen"}


def test_a_core_that_fails_is_a_failure_with_its_name() -> None:
    """What a core raises is its own failure."""

    def fails(*_: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access\nmore")

    with pytest.raises(KernelFailed, match=r"^mine: RuntimeError: CUDA error: an illegal memory access$"):
        checked(fails)


def test_the_wrong_cores_are_of_different_kinds() -> None:
    """At least ten, and the right one is not among them."""
    assert len(WRONG) >= 20 and wrong_cores.RIGHT is RIGHT
