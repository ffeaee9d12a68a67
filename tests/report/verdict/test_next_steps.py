"""What to do next: the step fits the verdict and its cause."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from synthetic import ENVIRONMENT

from nsa.report.verdict.next_steps import after_accept, after_invest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nsa.records.facts import Environment
    from tests.report.conftest import Lab

NO_GPU = ENVIRONMENT.model_copy(update={"cuda": False, "device": None, "note": "no NVIDIA driver"})


def after(lab: Lab, cells: Sequence[Path], checks: Sequence[Path] = (), about: Environment = ENVIRONMENT) -> str:
    run = lab.run(cells, checks)
    return after_invest(run.invest, run.accepts, run.cells, run.checks, about, lab.config.gates)


def after_check(lab: Lab, about: Environment = ENVIRONMENT, **check: object) -> str:
    run = lab.run([], [lab.check("cuda", **check)])
    found = next(each for each in run.accepts if each.backend == "cuda")
    return after_accept(found, "check_cuda", 1.2, run.checks, about)


def cells(lab: Lab, **cell: object) -> list[Path]:
    return [lab.cell("sdpa", S, **cell) for S in lab.config.contexts]


def test_go_names_the_kernels_that_are_accepted(lab: Lab) -> None:
    """Where a kernel is good enough nobody is told to build one."""
    assert after(lab, cells(lab)).startswith("Build a selection kernel")
    assert after(lab, cells(lab), [lab.check("cuda")]) == "A kernel is accepted already: ship cuda."


def test_no_go_leaves_selection_alone(lab: Lab) -> None:
    """A small share sends the user to the other parts."""
    assert "largest part" in after(lab, cells(lab, parts={"sel": 0.01, "overlap": 0.0}))


def test_inconclusive_names_what_blocks_or_asks_for_processes(lab: Lab) -> None:
    """A blocking check is to be mended; more processes help where there are too few."""
    said = after(lab, cells(lab, facts={"outputs_finite": False}))
    records = " ".join(f"results/decode/sdpa/S{S}.parquet" for S in lab.config.contexts)
    assert "output_not_finite" in said
    assert f"`rm {records}`" in said  # what stands is not measured again
    assert "profiles/ci/decision.yaml" in after(lab, cells(lab, processes=1))


def test_inconclusive_says_where_processes_do_not_help(lab: Lab) -> None:
    """Overlapping parts and contexts that disagree stay so however often they are timed."""
    assert "sel l.o.o." in after(lab, cells(lab, parts={"overlap": -0.02}))
    short, long = lab.config.contexts
    split = [lab.cell("sdpa", short, parts={"sel": 0.01, "overlap": 0.0}), lab.cell("sdpa", long)]
    assert "target_contexts" in after(lab, split)


def test_not_measured_says_what_the_gpu_lacks(lab: Lab) -> None:
    """Without a GPU the probe's reason is given; with one, the fix of the cell that did not run."""
    found = after(lab, cells(lab, device="cpu"), about=NO_GPU)
    assert found.endswith("torch can use (no NVIDIA driver).")
    assert after(lab, cells(lab, status="oom")) == "Run on a GPU."  # the record's own fix


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({}, "Ship it"),
        ({"speedup": 1.1}, "Make it faster where it is slowest, N=256"),
        ({"alter": ({"backend": "cuda", "seed": 0}, {"mae": 0.5})}, "Mend the results first"),
        ({"processes": 1}, "more processes"),
        ({"status": "failed"}, "Run on a GPU."),
        ({"alter": ({"backend": "sdpa:varlen", "seed": 0}, {"mae": 0.5})}, "packed_variant_wrong"),
        ({"alter": ({"backend": "sdpa:varlen", "seed": 0}, {"mae": 0.5})}, "`rm results/check_cuda.parquet`"),
    ],
)
def test_each_verdict_on_a_kernel_has_its_step(lab: Lab, check: dict[str, object], said: str) -> None:
    """Ship, make faster, make right, or make measurable."""
    assert said in after_check(lab, **check)


@pytest.mark.parametrize(
    ("core", "said"),
    [
        ({}, "Ship it"),
        ({"speedup": 0.5}, "Make it faster where it is slowest, B="),
        ({"status": "oom"}, "Run on a GPU."),
    ],
)
def test_each_verdict_on_a_core_has_its_step(lab: Lab, core: dict[str, object], said: str) -> None:
    """A decode core is judged by the same words."""
    lab = replace(lab, config=lab.config.model_copy(update={"candidates": ("fused",)}))
    run = lab.run([], [], [lab.core(**core)])
    (found,) = run.core_accepts
    assert said in after_accept(found, "core/fused", 1.0, run.checks, ENVIRONMENT)
