"""Runs that a report is looked at in: mixed verdicts, nothing measured, failed and oom cells, many cells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from remembered import remember
from synthetic import ENVIRONMENT

if TYPE_CHECKING:
    from tests.report.conftest import Lab

MANY = (128, 512, 1024, 2048, 4096, 8192, 16384, 65536)
FOUR = ("cuda", "triton", "fa2", "fused")  # beside sdpa: every backend that there is


def mixed(lab: Lab) -> None:
    """GO, one kernel and a decode core accepted, one kernel too slow, one wrong; the history has one run before."""
    remember(lab, 20)
    lab = replace(lab, config=lab.config.model_copy(update={"candidates": FOUR}))
    contexts = lab.config.contexts
    variants = {"varlen": 0.047, "blocks": 0.06}
    cells = [lab.cell("sdpa", S, variants=variants, parts={"sel": 0.03 + S / 1e5}) for S in contexts]
    for backend, ms in (("cuda", 0.012), ("triton", 0.016), ("fa2", 0.025), ("fused", 0.008)):
        overlap = -0.008 if backend == "fused" else -0.002  # a core's parts run beside each other
        cells += [lab.cell(backend, S, parts={"sel": ms, "overlap": overlap}) for S in contexts]
    wrong = ({"value_dim": 64, "sel_count": 8, "backend": "fa2", "seed": 0}, {"mae": 0.5})
    checks = [lab.check("cuda", speedup=2.3), lab.check("triton", speedup=1.15), lab.check("fa2", alter=wrong)]
    lab.render(cells, [*checks, lab.check("sdpa")], cores=[lab.core()])


def not_measured(lab: Lab) -> None:
    """A machine without a GPU."""
    note = "no NVIDIA driver"
    lab = replace(
        lab, about=ENVIRONMENT.model_copy(update={"cuda": False, "device": None, "note": note, "gpu_count": 0})
    )
    cells = [lab.cell("sdpa", S, device="cpu") for S in lab.config.contexts]
    cells += [lab.cell("cuda", S, device="cpu", status="unavailable") for S in lab.config.contexts]
    lab.render(cells, [lab.check("triton", device="cpu"), lab.check("cuda", device="cpu", status="unavailable")])


def broken(lab: Lab) -> None:
    """Cells that failed or had no memory, a build that failed, and a blocking check."""
    short, long = lab.config.contexts
    cells = [lab.cell("sdpa", short, facts={"outputs_finite": False}), lab.cell("sdpa", long, status="oom")]
    cells += [lab.cell("cuda", S, status="failed") for S in (short, long)]
    cells += [lab.cell("triton", short, parts={"sel": 0.015}), lab.cell("triton", long, status="oom")]
    lab.render(cells, [lab.check("cuda", status="failed"), lab.check("triton", processes=1)], build="failed")


def many(lab: Lab) -> None:
    """Eight contexts of every backend."""
    config = lab.config.model_copy(update={"contexts": MANY, "candidates": FOUR})
    lab = replace(lab, config=config)
    cells = [lab.cell("sdpa", S, parts={"sel": 0.01 + S / 1e6}, iters=2) for S in MANY]
    for place, backend in enumerate(FOUR):
        cells += [lab.cell(backend, S, parts={"sel": 0.004 * (place + 2)}, iters=2) for S in MANY]
    lab.render(cells, [lab.check(backend, speedup=3.6 / (place + 1)) for place, backend in enumerate(FOUR)])


STATES = {"mixed": mixed, "not-measured": not_measured, "broken": broken, "many": many}
