"""What the timed stages share: where and on what they run, and the facts that every record carries."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nsa import records
from nsa.config import Flags
from nsa.errors import ConfigError, KernelFailed
from nsa.kernels.machine import Machine
from nsa.process import die_with_parent

Argument = TypeVar("Argument")
Result = TypeVar("Result")

LOOK = "look at the log under results/logs, and run compute-sanitizer on the kernel"  # the mend of a KernelFailed


@dataclass(frozen=True)
class Host:
    """Where a stage runs: the device that was asked for, the machine's facts and the guide's flags."""

    device: str  # cuda or cpu
    device_name: str
    device_uuid: str | None
    machine: Machine
    flags: Flags

    @classmethod
    def of(cls, device: str, flags: Flags, environment: Mapping[str, Any], build: Mapping[str, Any] | None) -> Host:
        """Resolve "auto", "cuda" or "cpu" against the environment record; on "cpu" a GPU counts as absent.

        Raises:
            ConfigError: CUDA was asked for and is not there.
        """
        if device == "cuda" and not environment["cuda"]:
            raise ConfigError("device: got 'cuda', expected 'cpu' or 'auto': torch sees no CUDA device here")
        if device == "cpu" or not environment["cuda"]:
            return cls("cpu", environment["cpu"], None, Machine(None, build), flags)
        machine = Machine.from_records(environment, build)
        return cls("cuda", environment["device"], environment["gpu_uuid"], machine, flags)


def open_stage(stamp: Mapping[str, Any], environment: Path, build: Path | None) -> tuple[Host, dict[str, Any]]:
    """The host that a stamp's settings ask for, and the facts for the record: provenance and the stamp's digests.

    Raises:
        RecordError: an input record is missing or is not JSON.
        ConfigError: CUDA was asked for and is not there.
    """
    from nsa.bench.environment import provenance

    seen = records.read_json(environment)
    settings = stamp["settings"]
    host = Host.of(
        settings["device"], Flags(**settings["flags"]), seen, None if build is None else records.read_json(build)
    )
    digests = {
        "sources": stamp["sources"]["digest"],
        "settings": stamp["settings_digest"],
        "machine": stamp["machine_digest"],
    }
    return host, {"provenance": provenance(seen), "stamp": digests}


def in_fresh_process(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """Call a function in a process of its own, which dies with this one: the process is the replicate.

    Raises:
        KernelFailed: the process died under the backend: a crash, or somebody's kill.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=die_with_parent) as pool:
        try:
            return pool.submit(function, argument).result()
        except BrokenProcessPool as error:
            raise KernelFailed("its process died while it ran (a crash, or killed)") from error
