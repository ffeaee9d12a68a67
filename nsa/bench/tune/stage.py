"""The tuning stage: for every size that this configuration measures, the fastest right cut of the Triton kernel.

The launch_configs are frozen in its record, which the backend is given before anything is timed: nothing is tuned afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa.bench.runner import in_fresh_process, open_stage
from nsa.config import CheckSettings, RooflineSettings
from nsa.errors import BackendUnavailable, KernelFailed
from nsa.kernels import registry
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.records import files, parquet

BACKEND = "triton"
TIMEOUT_S = 900  # of all sizes, most of which is compiling when Triton's own cache is empty


@dataclass(frozen=True)
class Sizes:
    """What will be measured: the selection of a decode step, and the shapes of the kernel check and the roofline."""

    step: Mapping[str, Any]  # the fields of a CheckShape but its context; dtype by device
    check: CheckSettings
    roofline: RooflineSettings

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Sizes:
        """Build from the stamp's settings."""
        return cls(
            settings["step"],
            CheckSettings.from_dict(settings["check"]),
            RooflineSettings.from_dict(settings["roofline"]),
        )


def run(stamp: Mapping[str, Any], environment: Path, out: Path) -> None:
    """Tune as the stamp's settings say and write the record, whatever its status."""
    host, provenance = open_stage(stamp, environment, ())
    facts = measure(Sizes.from_dict(stamp["settings"]), host, lambda line: print(line, flush=True))
    record = {"schema_version": parquet.SCHEMA_VERSION, **facts, **provenance}
    files.write_text(out, json.dumps(record, indent=1, allow_nan=False) + "\n")


def measure(sizes: Sizes, host: Host, say: Callable[[str], None]) -> dict[str, Any]:
    """The record: its status with reason and fix, what the launch_configs hold for, and each size with all that was tried.

    Raises:
        Killed: the process was killed from outside; such a tuning has no record.
    """
    facts: dict[str, Any] = {"stage": "tune", "backend": BACKEND, "device": host.device, "tuned_for": None, "sizes": []}
    facts |= {"device_name": host.device_name, "device_uuid": host.device_uuid}

    def ended(status: str, reason: str, fix: str | None) -> dict[str, Any]:
        say(f"tune {BACKEND}: {status}: {reason}")
        return {**facts, "status": status, "reason": reason, "fix": fix}

    try:
        registry.require(BACKEND, host.machine, host.flags)
    except BackendUnavailable as error:
        return ended("unavailable", error.reason, error.fix)

    from nsa.bench.tune.replicate import Job, race_all  # torch and Triton: imported only where something runs

    with one_gpu(host, say) as card:
        facts["device_uuid"] = card.device_uuid
        try:
            found = in_fresh_process(race_all, Job(sizes, card), TIMEOUT_S)
        except KernelFailed as error:
            return ended("failed", str(error), error.fix)
    if found.error is not None:
        return ended("oom", found.error, "use a GPU with more memory, or lower rows or context of check or roofline")
    facts |= {"tuned_for": found.tuned_for, "sizes": found.sizes}
    return {**facts, "status": "ok", "reason": None, "fix": None}
