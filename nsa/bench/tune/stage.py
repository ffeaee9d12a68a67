"""The tuning stage: for every size that will be measured, the fastest right launch configuration of the Triton kernel.

They are frozen in its artifact, which the backend is given before anything is timed: nothing is tuned afterwards.
"""

from __future__ import annotations

import os
from pathlib import Path

from nsa.bench.records import Opened, open_stage
from nsa.bench.runner import Result, Say, Task
from nsa.bench.runner import run as run_task
from nsa.bench.tune.job import Job, Sizes, TuneArtifact, TuneFacts
from nsa.layout import Layout
from nsa.machine.host import Host
from nsa.records import files
from nsa.records.outcome import Ok
from nsa.records.words import ITEM_BYTES

BACKEND = "triton"
TIMEOUT_S = 900  # of one process, most of which is compiling when Triton's own cache is empty
MOST_PROCESSES = 8  # that compile side by side
JUDGING_BYTES = 1 << 30  # of the float64 oracle and its like


def run(stamp: Path, environment: Path, out: Path) -> None:
    """Tune as the stamp's settings say and write the artifact, whatever the outcome."""
    opened = open_stage(stamp, environment, ())
    sizes = opened.settings["sizes"]
    assert isinstance(sizes, dict)
    result = measure(Sizes.of(sizes, str(stamp)), opened.host, lambda line: print(line, flush=True))
    files.write_model(out, artifact(result, opened))


def measure(sizes: Sizes, host: Host, say: Say) -> Result[TuneFacts]:
    """Every size with all that was tried, or why nothing was tuned.

    Raises:
        Killed: a process was killed from outside; such a tuning has no record.
    """
    processes = min(MOST_PROCESSES, os.cpu_count() or 1) if host.device.kind == "cuda" else 1
    task = Task(
        name=f"tune {BACKEND}",
        backends=(BACKEND,),
        work="nsa.bench.tune.process:replicate",
        job=lambda card, process: Job(sizes, card, process, processes),
        processes=processes,
        timeout_s=TIMEOUT_S,
        memory_bytes=memory_bytes(sizes),
        less_memory="use a GPU with more memory, or lower rows or context of check or roofline",
        log=Layout().log(f"artifact_{BACKEND}"),
    )
    return run_task(task, host, say)


def artifact(result: Result[TuneFacts], opened: Opened) -> TuneArtifact:
    """What the backend is given: the outcome, what was tuned, and where it comes from."""
    outcome = result.outcome
    facts = outcome.facts if isinstance(outcome, Ok) else None
    return TuneArtifact(
        status=outcome.status,
        reason=outcome.reason,
        fix=outcome.fix,
        device=result.device,
        tuned_for=facts.tuned_for if facts else None,
        sizes=facts.sizes if facts else (),
        provenance=opened.provenance,
        stamp=opened.digests,
    )


def memory_bytes(sizes: Sizes) -> int:
    """What one process needs on the device, roughly: the caches of the largest shape, and what judges an output."""
    check, roofline = sizes.check, sizes.roofline
    most = max(
        max(check.rows) * check.context * (max(check.head_dim) + max(check.value_dim)),
        max(roofline.rows) * roofline.context * 2 * max(roofline.head_dim),
    )
    return round(1.1 * most * max(ITEM_BYTES[check.dtype.cuda], ITEM_BYTES[roofline.dtype])) + JUDGING_BYTES
