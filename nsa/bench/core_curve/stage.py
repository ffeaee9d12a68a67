"""The curve of decode cores: one backend's core timed and judged, as in the core check, over many S and B.

Unseen inputs, corner cases and dense attention are the core check's alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nsa.bench.apart.worker import WORK
from nsa.bench.core.job import Job
from nsa.bench.core.stage import memory_bytes
from nsa.bench.records import open_stage, write
from nsa.bench.runner import Result, Say, Task, without_gpu
from nsa.bench.runner import run as run_task
from nsa.config import CoreSettings
from nsa.layout import Layout
from nsa.machine.host import Host
from nsa.records.facts import CoreFacts


def run(backend: str, stamp: Path, environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Time one backend's core as the stamp's settings say and write its record, whatever its outcome."""
    opened = open_stage(stamp, environment, artifacts)
    settings = opened.section("core", CoreSettings)
    result = measure(backend, settings, opened.host, lambda line: print(line, flush=True))
    write(out, opened, "core_curve", result, backend)


def measure(backend: str, settings: CoreSettings, host: Host, say: Say) -> Result[CoreFacts]:
    """Time one core: rows of schemas.CORE, and its facts or why there are none.

    Args:
        backend: whose core is timed.
        settings: the shapes, and how often each is timed.
        host: where to measure.
        say: receives lines of progress.

    Raises:
        Killed: a process was killed from outside; there is then no record.
    """
    if host.device.kind != "cuda":
        return without_gpu(f"core curve {backend}", host, say)
    task = Task(
        name=f"core curve {backend}",
        backends=(backend,),
        work=WORK,
        job=lambda card, process: Job(backend, settings, card, process, timed_only=True),
        processes=settings.processes,
        timeout_s=settings.timeout_s,
        memory_bytes=memory_bytes(settings, host.device.kind, copies=False),
        less_memory="use a GPU with more memory, or lower core_curve.max_tokens",
        log=Layout().log(f"core_curve_{backend}"),
    )
    return run_task(task, host, say)
