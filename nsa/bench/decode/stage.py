"""The decode stage: measure one (backend, S) cell in processes of its own and write its record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nsa.bench.decode.job import Job
from nsa.bench.records import open_stage, write
from nsa.bench.runner import Result, Say, Task
from nsa.bench.runner import run as run_task
from nsa.config import DecodeSettings
from nsa.layout import Layout
from nsa.machine.host import Host
from nsa.records.decode import DecodeFacts
from nsa.records.words import ARMS, ITEM_BYTES

JUDGE_BYTES = 1 << 30  # what a float64 step holds at once


def run(backend: str, S: int, stamp: Path, environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Measure one cell as the stamp's settings say and write its record, whatever its outcome."""
    opened = open_stage(stamp, environment, artifacts)
    settings = opened.section("decode", DecodeSettings)
    result = measure(backend, S, settings, opened.host, lambda line: print(line, flush=True))
    write(out, opened, "decode", result, backend=backend, S=S)


def measure(backend: str, S: int, settings: DecodeSettings, host: Host, say: Say) -> Result[DecodeFacts]:
    """Measure one cell: rows of schemas.REPETITIONS, and its facts or why there are none.

    Args:
        backend: the requested backend; no other is ever run.
        S: tokens in the caches after the measured step.
        settings: the layer, and how often it is measured.
        host: where to measure.
        say: receives lines of progress.

    Raises:
        Killed: a process was killed from outside; such a cell has no record.
    """
    task = Task(
        name=f"decode {backend} S={S}",
        backends=(backend,),
        work="nsa.bench.decode.replicate:replicate",
        job=lambda card, process: Job(backend, S, settings, card, process),
        processes=settings.processes,
        timeout_s=settings.timeout_s,
        memory_bytes=memory_bytes(settings, S, host.device.kind),
        less_memory="lower decode.batch, the model's sizes or S",
        log=Layout().log(f"decode/{backend}/S{S}"),
    )
    return run_task(task, host, say)


def memory_bytes(settings: DecodeSettings, S: int, kind: str) -> int:
    """What one process needs on the device, roughly: weights, the caches twice, for prefill and counting, and what
    is kept of every arm's steps, cold and warm, for the judge.
    """
    shape, item = settings.model, ITEM_BYTES[settings.dtype.of(kind)]
    token = shape.groups * (shape.head_dim + shape.value_dim) * item
    caches = settings.batch * token * (3 * S + shape.num_compressed(S))
    projected = shape.dim * (shape.heads * (shape.head_dim + shape.value_dim) + 3 * token // item) * item
    kept = 2 * settings.iters * 2 * len(ARMS) * settings.batch * (shape.dim + shape.heads * shape.head_dim) * item
    return 2 * caches + 2 * projected + kept + JUDGE_BYTES
