"""The kernel check: correctness and speed of one backend against packed SDPA on the acceptance grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nsa.bench.runner import in_fresh_process, open_stage
from nsa.config import CheckSettings
from nsa.errors import BackendUnavailable, KernelFailed
from nsa.kernels import registry
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.records import parquet, schemas


def run(backend: str, stamp: Mapping[str, Any], environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Check one backend as the stamp's settings say and write its record, whatever its status."""
    host, provenance = open_stage(stamp, environment, artifacts)
    settings = CheckSettings.from_dict(stamp["settings"]["check"])
    rows, facts = check(backend, settings, host, lambda line: print(line, flush=True))
    parquet.write(out, rows, schemas.CHECK_REPETITIONS, {**facts, **provenance})


def check(
    backend: str, settings: CheckSettings, host: Host, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Check one backend: rows of schemas.CHECK_REPETITIONS, and the facts with the status.

    On a CPU nothing is timed: a timing there says nothing about a GPU kernel.

    Raises:
        Killed: the process was killed from outside; such a check has no record.
    """
    facts: dict[str, Any] = {"stage": "check", "backend": backend, "device": host.device}
    facts |= {"device_name": host.device_name, "device_uuid": host.device_uuid}
    try:
        registry.require(backend, host.machine, host.flags)
    except BackendUnavailable as error:
        say(f"check {backend}: unavailable: {error.reason}")
        return [], {**facts, "status": "unavailable", "reason": error.reason, "fix": error.fix}

    from nsa.bench.check.replicate import Job, contest  # torch: imported only where something runs

    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    others: set[int] = set()
    notes: Mapping[str, Any] = {}
    with one_gpu(host, say) as card:
        facts["device_uuid"] = card.device_uuid
        for process in range(settings.processes if host.device == "cuda" else 1):
            try:
                job = Job(backend, settings, card, process)
                found = in_fresh_process(contest, job, settings.timeout_s, fork=card.device == "cpu")
            except BackendUnavailable as error:  # its extension does not load
                say(f"check {backend}: unavailable: {error.reason}")
                return [], {**facts, "status": "unavailable", "reason": error.reason, "fix": error.fix}
            except KernelFailed as error:
                say(f"check {backend}: failed: {error}")
                return [], {**facts, "status": "failed", "reason": str(error), "fix": error.fix}
            if found.error is not None:
                fix = "use a GPU with more memory, or lower check.rows or check.context"
                return [], {**facts, "status": "oom", "reason": found.error, "fix": fix}
            rows += found.rows
            left_out |= found.left_out
            others.update(found.other_processes)
            notes = found.notes
            say(f"check {backend}: process {process + 1} done, {len(found.rows)} rows")
    facts |= {"left_out": left_out, "other_processes": sorted(others), "notes": notes}
    return rows, {**facts, "status": "ok", "reason": None, "fix": None}
