"""The kernel check: correctness and speed of one backend against packed SDPA on the acceptance grid."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from nsa import backends as specs
from nsa.bench.apart.worker import WORK
from nsa.bench.check.job import Job
from nsa.bench.records import open_stage, write
from nsa.bench.runner import CONTEXT_BYTES, Result, Say, Task
from nsa.bench.runner import run as run_task
from nsa.config import CheckSettings
from nsa.layout import Layout
from nsa.machine.host import Host
from nsa.records.facts import CheckFacts
from nsa.records.words import BASELINE, ITEM_BYTES

CORNER_SEEDS = 2**31  # a record's column of seeds holds no larger one
CACHES, COPIES = 3, 6  # caches of the largest shape that are held at once, and packed copies of the selected tokens


def run(backend: str, stamp: Path, environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Check one backend as the stamp's settings say and write its record, whatever its outcome."""
    opened = open_stage(stamp, environment, artifacts)
    settings = opened.section("check", CheckSettings)
    result = check(backend, settings, opened.host, lambda line: print(line, flush=True))
    write(out, opened, "check", result, backend)


def check(
    backend: str, settings: CheckSettings, host: Host, say: Say, seed: int = 0, apart: bool | None = None
) -> Result[CheckFacts]:
    """Check one backend: rows of schemas.CHECK_REPETITIONS, and its facts or why there are none.

    The corner cases have a seed that nobody knows before. On a CPU nothing is timed: a timing there says nothing about
    a GPU kernel.

    Args:
        backend: whose kernel is checked, against every packed SDPA variant.
        settings: the grid, and how often each kernel is timed.
        host: where to check.
        say: receives lines of progress.
        seed: moves every random draw.
        apart: whether the backend is loaded in a process of its own; by default on CUDA, whose times decide.

    Raises:
        Killed: a process was killed from outside; such a check has no record.
    """
    on_cuda = host.device.kind == "cuda"
    processes = settings.processes if on_cuda else 1
    packs, own = specs.spec(backend).packs, on_cuda if apart is None else apart
    corners = secrets.randbelow(CORNER_SEEDS)
    task = Task(
        name=f"check {backend}",
        backends=(backend, BASELINE),
        work=WORK,
        job=lambda card, process: Job(backend, settings, card, process, processes, seed, packs, own, corners),
        processes=processes,
        timeout_s=settings.timeout_s,
        memory_bytes=memory_bytes(settings, host.device.kind) + (CONTEXT_BYTES if own else 0),
        less_memory="use a GPU with more memory, or lower check.rows or check.context",
        log=Layout().log(f"check_{backend}"),
    )
    return run_task(task, host, say)


def memory_bytes(settings: CheckSettings, kind: str) -> int:
    """What one process needs on the device, roughly: caches and packed copies of the largest shape."""
    token = (max(settings.head_dim) + max(settings.value_dim)) * ITEM_BYTES[settings.dtype.of(kind)]
    selected = min(settings.context, max(settings.sel_count) * settings.sel_block)
    return max(settings.rows) * token * (CACHES * settings.context + COPIES * selected)
