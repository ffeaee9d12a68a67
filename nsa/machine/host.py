"""Where a stage runs: the device that was asked for, and the machine's facts that availability depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nsa.config import Flags
from nsa.errors import ConfigError


@dataclass(frozen=True)
class Machine:
    """The facts that availability depends on; no torch, so that an unavailable cell is recorded in milliseconds."""

    capability: tuple[int, int] | None  # None: no CUDA device
    # by backend, the record of the stage that is its own: cuda's build, triton's tuning; absent: it has not run
    artifacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_records(cls, environment: Mapping[str, Any], artifacts: Mapping[str, Mapping[str, Any]]) -> Machine:
        """Build from results/environment.json and the records of the backends' own stages."""
        major_minor = environment.get("capability")
        return cls(tuple(major_minor) if major_minor else None, artifacts)


@dataclass(frozen=True)
class Host:
    """Where a stage runs: the device that was asked for, the machine's facts and the guide's flags."""

    device: str  # cuda or cpu
    device_name: str
    device_uuid: str | None
    machine: Machine
    flags: Flags

    @classmethod
    def of(
        cls, device: str, flags: Flags, environment: Mapping[str, Any], artifacts: Mapping[str, Mapping[str, Any]]
    ) -> Host:
        """Resolve "auto", "cuda" or "cpu" against the environment record; on "cpu" a GPU counts as absent.

        Raises:
            ConfigError: CUDA was asked for and is not there.
        """
        if device == "cuda" and not environment["cuda"]:
            raise ConfigError("device: got 'cuda', expected 'cpu' or 'auto': torch sees no CUDA device here")
        if device == "cpu" or not environment["cuda"]:
            return cls("cpu", environment["cpu"], None, Machine(None, artifacts), flags)
        machine = Machine.from_records(environment, artifacts)
        return cls("cuda", environment["device"], environment["gpu_uuid"], machine, flags)
