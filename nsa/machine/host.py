"""Where a stage runs: the device that was asked for, and the machine's facts that availability depends on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from pydantic import JsonValue

from nsa.config import Flags
from nsa.errors import ConfigError
from nsa.records.facts import Device, Environment

Artifact = Mapping[str, JsonValue]  # what a backend's own stage wrote


@dataclass(frozen=True)
class Machine:
    """The facts that availability depends on; no torch, so that an unavailable cell is recorded in milliseconds.

    Attributes:
        capability: compute capability of the GPU; None without a CUDA device, or where none was asked for.
        artifacts: by backend, what its own stage wrote; absent where the stage has not run.
        no_gpu, fix: why there is no capability, and what to do about it.
    """

    capability: tuple[int, int] | None
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    no_gpu: str = "no CUDA device is visible"
    fix: str = "run on a machine with an NVIDIA GPU"


@dataclass(frozen=True)
class Host:
    """Where a stage runs: the device that was asked for, the machine's facts and the flags."""

    device: Device
    machine: Machine
    flags: Flags

    @classmethod
    def of(cls, device: str, flags: Flags, environment: Environment, artifacts: Mapping[str, Artifact]) -> Self:
        """Resolve "auto", "cuda" or "cpu" against the environment's record; on "cpu" a GPU counts as absent.

        Raises:
            ConfigError: CUDA was asked for and is not there.
        """
        why, fix = environment.unused_gpu or Machine.no_gpu, environment.fix or Machine.fix
        if device == "cuda" and not environment.cuda:
            raise ConfigError(f"device: got 'cuda', expected 'cpu' or 'auto': {environment.note or why}; {fix}")
        if device == "cpu" and environment.cuda:
            why, fix = "a run on the CPU was asked for (device: cpu)", "set device to auto"
        if device == "cpu" or not environment.cuda:
            cpu = Device(kind="cpu", name=environment.cpu, uuid=None)
            return cls(cpu, Machine(None, artifacts, why, fix), flags)
        gpu = Device(kind="cuda", name=str(environment.device), uuid=environment.gpu_uuid)
        return cls(gpu, Machine(environment.capability, artifacts), flags)

    def on_card(self, uuid: str) -> Host:
        """The same on another card of the model."""
        return replace(self, device=self.device.model_copy(update={"uuid": uuid}))
