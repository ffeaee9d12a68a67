"""The core check: correctness and speed of one backend's decode core on the paper's geometry."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from nsa.bench.apart.worker import WORK
from nsa.bench.core.job import Job
from nsa.bench.records import open_stage, write
from nsa.bench.runner import CONTEXT_BYTES, Result, Say, Task
from nsa.bench.runner import run as run_task
from nsa.config import CoreSettings
from nsa.layout import Layout
from nsa.machine.host import Host
from nsa.records.facts import CoreFacts
from nsa.records.grids import core_grid
from nsa.records.words import ITEM_BYTES

CACHES = 6  # of K and V of one branch that are there at once: two branches, their copies, and room to compare


def run(backend: str, stamp: Path, environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Check one backend's core as the stamp's settings say and write its record, whatever its outcome."""
    opened = open_stage(stamp, environment, artifacts)
    settings = opened.section("core", CoreSettings)
    result = check(backend, settings, opened.host, lambda line: print(line, flush=True))
    write(out, opened, "core", result, backend)


def check(
    backend: str, settings: CoreSettings, host: Host, say: Say, seed: int = 0, apart: bool | None = None
) -> Result[CoreFacts]:
    """Check one core: rows of schemas.CORE, and its facts or why there are none.

    All inputs have a seed that nobody knows before. On a CPU nothing is timed.

    Args:
        backend: whose core is checked.
        settings: the grid, and how often each is timed.
        host: where to check.
        say: receives lines of progress.
        seed: moves every random draw.
        apart: whether the core is loaded in a process of its own; by default on CUDA, whose times decide.

    Raises:
        Killed: a process was killed from outside; such a check has no record.
    """
    on_cuda = host.device.kind == "cuda"
    own = on_cuda if apart is None else apart
    corners = secrets.randbelow(2**31)
    task = Task(
        name=f"core {backend}",
        backends=(backend,),
        work=WORK,
        job=lambda card, process: Job(backend, settings, card, process, seed, own, corners),
        processes=settings.processes if on_cuda else 1,
        timeout_s=settings.timeout_s,
        memory_bytes=memory_bytes(settings, host.device.kind) + (CONTEXT_BYTES if own else 0),
        less_memory="use a GPU with more memory, or lower core.batch or core.contexts",
        log=Layout().log(f"core_{backend}"),
    )
    return run_task(task, host, say)


def memory_bytes(settings: CoreSettings, kind: str, copies: bool = True) -> int:
    """What one process needs on the device, roughly: the caches of the largest shape, and copies of them."""
    token = (max(settings.head_dim) + settings.value_dim) * ITEM_BYTES[settings.dtype.of(kind)]
    tokens = max(shape.batch * shape.context for shape in core_grid(settings, kind))
    return (CACHES if copies else CACHES - 2) * tokens * settings.groups * token
