"""A kernel tried by the whole kernel check on one small shape, through its record, as in the pipeline."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

from standins import ON_CPU, PROVENANCE
from synthetic import STAMP
from wrong.checks import PLAIN, Found, hides_others, rejections, switched_off
from wrong.entry import Entry
from wrong.recalled import recalled

from nsa.bench.check import replicate
from nsa.bench.check.corners import judge
from nsa.bench.check.corners.cases import cases
from nsa.bench.check.job import Job
from nsa.bench.check.replicate import check_kernel
from nsa.bench.method.timing import CudaTimer
from nsa.bench.runner import Replicated
from nsa.bench.workers import Turn
from nsa.config import CheckSettings, DtypeByDevice, Flags, GateSettings
from nsa.errors import KernelFailed
from nsa.kernels.contract import Backend, SelectAttention
from nsa.kernels.failures import BackendBroken
from nsa.kernels.sdpa.packed import CUDA_VARIANTS, VARIANTS
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records import parquet, schemas
from nsa.records.facts import CheckFacts
from nsa.records.outcome import Header, Ok
from nsa.records.words import VARIANT
from nsa.report.analysis.read import Record, read_check
from nsa.report.verdict.gates import Accept, accept
from nsa.report.verdict.isolation import isolation_checks

SETTINGS = CheckSettings(
    rows=(16,),
    heads_per_group=(4,),
    head_dim=(32,),
    value_dim=(32,),
    sel_count=(4,),
    context=300,
    dtype=DtypeByDevice(cpu="float16", cuda="float16"),
    seeds=3,
    cpu_rows=16,
    cpu_context=300,
    iters=5,
)
ON_GPU = SETTINGS.model_copy(
    update={"rows": (32,), "heads_per_group": (4, 8), "head_dim": (64,), "value_dim": (64,), "sel_count": (8,)}
    | {"context": 2048, "iters": 15}
)
TIMED = {"speed", "memory floor"}  # checks of times, which reject what is written in PyTorch and what does nothing
FEW = ("h = 3", "n = 1", "no blocks", "single tokens")  # corner cases of which one shows most mistakes
TIMER = cache(CudaTimer)
GIGABYTES = {name for name, case in cases(SETTINGS.dtype.cuda).items() if case.memory_bytes}  # corner cases of a GPU


@dataclass(frozen=True)
class Trial:
    """What the check says of a kernel.

    Attributes:
        found: the checks that reject it; empty where it passes.
        accept: what the gate says; None where the kernel left no record.
    """

    found: Found
    accept: Accept | None


def tried(
    kernel: SelectAttention,
    seed: int = 0,
    off: str | None = None,
    host: Host = ON_CPU,
    packs: bool = False,
    gigabytes: bool = False,
    corners: Collection[str] | None = None,
) -> Trial:
    """Check a kernel.

    Args:
        kernel: that is checked.
        seed: of all that is drawn.
        off: a check that is switched off.
        host: on what.
        packs: whether it may launch what packed SDPA launches.
        gigabytes: whether a GPU tries the corner cases of gigabytes, too.
        corners: the corner cases that a CPU tries; None for all.
    """
    name, on_cuda = "cuda", host.device.kind == "cuda"
    settings = ON_GPU if on_cuda else SETTINGS
    variants = VARIANTS | CUDA_VARIANTS if on_cuda else VARIANTS
    rivals = {f"{VARIANT}{each}": variant for each, variant in variants.items()}
    with switched_off(off), ExitStack() as stack:
        stack.enter_context(quickly(gigabytes) if on_cuda else recalled(seed, corners))
        try:
            job = Job(name, settings, host, 0, seed=seed, corners=seed)
            checked = check_kernel(Backend(name, kernel), rivals, job, Turn(), packs=packs)
        except BackendBroken as error:
            return Trial({PLAIN: str(error)}, None)
        except KernelFailed as error:
            return Trial({"runs": str(error)}, None)
    return trial_of(checked, settings, host, off)


def trial_of(checked: Replicated[CheckFacts], settings: CheckSettings, host: Host, off: str | None = None) -> Trial:
    """What the gate and the checks say of what a check of the cuda backend found, by way of its record."""
    header = Header[CheckFacts](
        stage="check",
        backend="cuda",
        device=host.device,
        outcome=Ok(facts=checked.facts),
        provenance=PROVENANCE,
        stamp=STAMP,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "check_cuda.parquet"
        parquet.write(path, checked.rows, schemas.CHECK_REPETITIONS, header)
        record: Record[CheckFacts] = read_check(path)
    said = accept("cuda", record, (), settings, GateSettings())
    found = rejections(record) | by_its_times(said)
    if checked.facts.baseline_alone:  # it was timed in a process of its own
        found |= {each.name: each.message for each in isolation_checks(record) if each.blocks}
    return Trial({check: words for check, words in found.items() if check != off}, said)


@contextmanager
def quickly(gigabytes: bool) -> Iterator[None]:
    """On a GPU nothing waits for its clock, since no time decides here; all kernels share one timer, whose second
    context takes half a gigabyte, and few get corner cases of gigabytes.
    """
    named = {each: case for each, case in cases(ON_GPU.dtype.cuda).items() if gigabytes or each not in GIGABYTES}
    with ExitStack() as stack:
        for module, name, instead in (
            (replicate, "Clock", lambda *_: None),
            (replicate, "CudaTimer", TIMER),
            (judge, "cases", lambda dtype: named),
        ):
            stack.enter_context(patch.object(module, name, instead))
        yield


def by_its_times(said: Accept) -> Found:
    """What rejects a kernel that was timed: one process has no interval, so that its speedup is taken as it is."""
    found: Found = {}
    for shape in said.shapes:
        figures = shape.figures
        if figures.too_fast:
            found["memory floor"] = f"{figures.time_us:.3g} µs, faster than {figures.floor_us:.3g}"
        if figures.speedup is not None and figures.speedup.value < GateSettings().accept.speedup:
            found["speed"] = f"speedup {figures.speedup.value:.3g} on {figures.shape}"
    return found


def on_a_gpu() -> Host:
    """This machine's GPU."""
    return Host.of("cuda", Flags(), probe(), {})


def rejected_by(entry: Entry, host: Host = ON_CPU, few: bool = False) -> tuple[Trial, Found]:
    """The trial of an entry, and all checks that reject it.

    A fault hides those that would be looked for after it: where one check alone was seen, or not the one that is meant,
    the entry is tried again with that one off.

    Args:
        entry: what is tried.
        host: on what.
        few: whether a CPU tries only FEW corner cases, and the one that is meant: enough where many checks reject it.
    """
    large, corners = entry.check in GIGABYTES, {entry.check, *FEW} if few else None
    trial = tried(entry.make(), host=host, gigabytes=large, corners=corners)
    found = dict(trial.found)
    for check in [each for each in found if hides_others(each)]:
        if len(found.keys() - TIMED) == 1 or entry.check not in found:
            found |= tried(entry.make(), off=check, host=host, gigabytes=large, corners=corners).found
    return trial, found
