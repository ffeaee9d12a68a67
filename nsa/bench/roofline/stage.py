"""The roofline stage: every backend's kernel on every shape in one run, with the copy bandwidth of that same run.

The report makes of it how far each kernel is from the memory floor, the selected K and V over the bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nsa.bench.runner import in_fresh_process, open_stage
from nsa.config import RooflineSettings
from nsa.errors import BackendUnavailable, KernelFailed
from nsa.kernels import registry
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.records import parquet, schemas

PACKED = "sdpa"  # gather-packed SDPA: what every time and every error is compared with
OK = {"status": "ok", "reason": None, "fix": None}
MORE_MEMORY = "use a GPU with more memory, or lower roofline.rows or roofline.context"

State = dict[str, str | None]  # status, reason and fix
Say = Callable[[str], None]


def run(stamp: Mapping[str, Any], environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Measure as the stamp's settings say and write the record, whatever its status."""
    host, provenance = open_stage(stamp, environment, artifacts)
    settings = RooflineSettings.from_dict(stamp["settings"]["roofline"])
    rows, facts = measure(settings, stamp["settings"]["backends"], host, lambda line: print(line, flush=True))
    parquet.write(out, rows, schemas.ROOFLINE, {**facts, **provenance})


def measure(
    settings: RooflineSettings, backends: Sequence[str], host: Host, say: Say
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Time the backends that can run here together: rows of schemas.ROOFLINE, and the facts with the status.

    The others are in facts["backends"] with their status, reason and fix; a shape that a backend refuses has a row
    with the reason as its fault.

    Args:
        settings: the shapes, and how often each kernel is timed.
        backends: what to time; packed SDPA, the reference, takes part in any case.
        host: where to measure.
        say: receives lines of progress.

    Raises:
        Killed: a process was killed from outside; there is then no record.
    """
    facts: dict[str, Any] = {"stage": "roofline", "device": host.device, "device_name": host.device_name}
    facts |= {"device_uuid": host.device_uuid, "backends": {}, "bandwidth_bytes_per_s": [], "notes": {}}
    if host.device != "cuda":
        return [], {**facts, **_state(say, "unavailable", "there is no CUDA device to time on", "run on an NVIDIA GPU")}

    from nsa.bench.roofline.replicate import Job, replicate  # torch: imported only where something runs

    rows: list[dict[str, Any]] = []
    others: set[int] = set()
    with one_gpu(host, say) as card:
        facts["device_uuid"] = card.device_uuid
        for name in dict.fromkeys((PACKED, *backends)):
            facts["backends"][name] = _smoke_run(name, settings, card, say)
        if (packed := facts["backends"][PACKED])["status"] != "ok":
            return [], {**facts, **packed, "reason": f"packed SDPA, the reference, does not run: {packed['reason']}"}
        able = tuple(name for name, state in facts["backends"].items() if state["status"] == "ok")
        for process in range(settings.processes):
            try:
                found = in_fresh_process(replicate, Job(able, settings, card, process), settings.timeout_s)
            except KernelFailed as error:
                return [], {**facts, **_state(say, "failed", str(error), error.fix)}
            if found.error is not None:
                return [], {**facts, **_state(say, "oom", found.error, MORE_MEMORY)}
            rows += found.rows
            facts["bandwidth_bytes_per_s"].append(found.bandwidth_bytes_per_s)
            others.update(found.other_processes)
            facts["notes"] |= found.notes
            say(f"roofline: process {process + 1} of {settings.processes}, {len(found.rows)} rows")
    return rows, {**facts, **OK, "other_processes": sorted(others)}


def _smoke_run(name: str, settings: RooflineSettings, host: Host, say: Say) -> State:
    """The state of one backend: whether it can run here, and does in a short race of its own against packed SDPA.

    All backends share a process when they are timed. What fails does so here, alone, and is left out with its reason.
    """
    from nsa.bench.roofline.replicate import Job, replicate

    try:
        registry.require(name, host.machine, host.flags)
        racing = tuple(dict.fromkeys((PACKED, name)))
        job = Job(racing, replace(settings, iters=1), host, settings.processes)
        found = in_fresh_process(replicate, job, settings.timeout_s)
    except BackendUnavailable as error:
        return _state(say, "unavailable", error.reason, error.fix, name)
    except KernelFailed as error:
        return _state(say, "failed", str(error), error.fix, name)
    return dict(OK) if found.error is None else _state(say, "oom", found.error, MORE_MEMORY, name)


def _state(say: Say, status: str, reason: str, fix: str, name: str = "every backend") -> State:
    say(f"roofline: {name}: {status}: {reason}")
    return {"status": status, "reason": reason, "fix": fix}
