"""The decode stage: measure one (backend, S) cell in fresh processes and write its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nsa.bench.runner import in_fresh_process, open_stage
from nsa.config import DecodeSettings
from nsa.errors import BackendUnavailable, KernelFailed
from nsa.kernels import registry
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.records import parquet, schemas


def run_cell(
    backend: str, S: int, stamp: Mapping[str, Any], environment: Path, artifacts: Sequence[Path], out: Path
) -> None:
    """Measure one cell as the stamp's settings say and write its record, whatever the cell's status."""
    host, provenance = open_stage(stamp, environment, artifacts)
    settings = DecodeSettings.from_dict(stamp["settings"]["decode"])
    rows, facts = measure(backend, S, settings, host, lambda line: print(line, flush=True))
    parquet.write(out, rows, schemas.REPETITIONS, {**facts, **provenance})


def measure(
    backend: str, S: int, settings: DecodeSettings, host: Host, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Measure one cell: rows of schemas.REPETITIONS, and the facts of the cell with its status.

    An unavailable backend and a cell out of memory are statuses with their reasons; nothing runs in their place.

    Args:
        backend: the requested backend; no other is ever run.
        S: tokens in the caches after the measured step.
        settings: the layer, and how often it is measured.
        host: where to measure.
        say: receives a line of progress for each process.

    Raises:
        Killed: the process was killed from outside; such a cell has no record.
    """
    facts: dict[str, Any] = {"stage": "decode", "backend": backend, "S": S, "device": host.device, "reads": None}
    try:
        registry.require(backend, host.machine, host.flags)
    except BackendUnavailable as error:
        say(f"decode {backend} S={S}: unavailable: {error.reason}")
        return [], {**facts, "status": "unavailable", "reason": error.reason, "fix": error.fix}

    from nsa.bench.decode.replicate import Job, replicate  # torch: imported only where something runs

    rows: list[dict[str, Any]] = []
    finite = True
    with one_gpu(host, say) as card:
        for process in range(settings.processes):
            try:
                job = Job(backend, S, settings, card, process)
                found = in_fresh_process(replicate, job, settings.timeout_s, fork=card.device == "cpu")
            except BackendUnavailable as error:  # its extension does not load
                say(f"decode {backend} S={S}: unavailable: {error.reason}")
                return [], {**facts, "status": "unavailable", "reason": error.reason, "fix": error.fix}
            except KernelFailed as error:
                say(f"decode {backend} S={S}: failed: {error}")
                return [], {**facts, "status": "failed", "reason": str(error), "fix": error.fix}
            if found.facts["status"] != "ok":
                say(f"decode {backend} S={S}: {found.facts['status']}: {found.facts['reason']}")
                return [], {**facts, **found.facts}
            facts = {**found.facts, **facts, "reads": found.facts["reads"]}
            finite &= found.facts["outputs_finite"]
            rows += found.rows
            say(f"decode {backend} S={S}: process {process + 1} of {settings.processes}, {len(found.rows)} repetitions")
    reads = {**facts["reads"], "expected": settings.model.reads_expected(S)}
    cell = {
        **asdict(settings.model),
        "device": host.device,
        "device_name": host.device_name,
        "device_uuid": card.device_uuid,
        "batch": settings.batch,
        "S": S,
        "dtype": settings.dtype[host.device],
        "seed": settings.seed,
    }
    return [{**cell, **row} for row in rows], {**facts, "reads": reads, "outputs_finite": finite, "fix": None}
