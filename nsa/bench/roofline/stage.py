"""The roofline stage: every backend's kernel on every shape in one run, with the copy bandwidth of that same run.

The report makes of it how far each kernel is from the memory floor, the selected K and V over the bandwidth.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nsa.bench.records import open_stage, write
from nsa.bench.roofline.job import Job
from nsa.bench.runner import Result, Say, Task, without_gpu
from nsa.bench.runner import run as run_task
from nsa.config import RooflineSettings
from nsa.layout import Layout
from nsa.machine.host import Host
from nsa.records.facts import RooflineFacts, State
from nsa.records.outcome import Ok
from nsa.records.words import BASELINE, ITEM_BYTES

COPIES = 2  # packed copies of the selected tokens that the graph of packed SDPA, and its A/A control, hold


def run(stamp: Path, environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Measure as the stamp's settings say and write the record, whatever its outcome."""
    opened = open_stage(stamp, environment, artifacts)
    settings = opened.section("roofline", RooflineSettings, complete=False)
    asked = opened.settings["backends"]
    assert isinstance(asked, list)
    result = measure(settings, [str(name) for name in asked], opened.host, lambda line: print(line, flush=True))
    write(out, opened, "roofline", result, None)


def measure(settings: RooflineSettings, backends: Sequence[str], host: Host, say: Say) -> Result[RooflineFacts]:
    """Time the backends that can run here together: rows of schemas.ROOFLINE, and the facts or why there are none.

    Each backend has a short run of its own before; one that fails there, or cannot run, is left out, and facts.backends
    has its state. A shape that a backend refuses has a row with the reason as its fault.

    Args:
        settings: the shapes, and how often each kernel is timed.
        backends: what to time; packed SDPA, the reference, takes part in any case.
        host: where to measure.
        say: receives lines of progress.

    Raises:
        Killed: a process was killed from outside; there is then no record.
    """
    if host.device.kind != "cuda":
        return without_gpu("roofline", host, say)
    states: dict[str, State] = {}
    for name in dict.fromkeys((BASELINE, *backends)):
        tried: Result[RooflineFacts] = run_task(
            task((name,), settings.model_copy(update={"iters": 1, "processes": 1})), host, say
        )
        states[name] = State.model_validate(tried.outcome.model_dump(include={"status", "reason", "fix"}))
        if name == BASELINE and not isinstance(tried.outcome, Ok):
            reason = f"packed SDPA, the reference, does not run: {tried.outcome.reason}"
            return Result(tried.device, tried.outcome.model_copy(update={"reason": reason}))
    able = tuple(name for name, state in states.items() if state.status == "ok")
    result: Result[RooflineFacts] = run_task(task(able, settings), host, say)
    if isinstance(result.outcome, Ok):
        facts = result.outcome.facts.model_copy(update={"backends": states})
        return Result(result.device, Ok(facts=facts), result.rows)
    return result


def task(backends: tuple[str, ...], settings: RooflineSettings) -> Task[Job]:
    """Some backends on every shape, beside packed SDPA."""
    racing = tuple(dict.fromkeys((BASELINE, *backends)))
    return Task(
        name=f"roofline {', '.join(racing)}",
        backends=racing,
        work="nsa.bench.roofline.replicate:replicate",
        job=lambda card, process: Job(racing, settings, card, process),
        processes=settings.processes,
        timeout_s=settings.timeout_s,
        memory_bytes=memory_bytes(settings),
        less_memory="use a GPU with more memory, or lower roofline.rows or roofline.context",
        log=Layout().log("roofline"),
    )


def memory_bytes(settings: RooflineSettings) -> int:
    """What one process needs on the device, roughly: every shape is there at once."""
    total = 0
    for rows in settings.rows:
        for width in settings.head_dim:
            token = rows * 2 * width * ITEM_BYTES[settings.dtype]
            selected = sum(settings.sel_count) * settings.sel_block * len(settings.heads_per_group)
            total += token * (settings.context + COPIES * selected)
    return 2 * total
