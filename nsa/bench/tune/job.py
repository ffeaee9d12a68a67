"""What is tuned, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, JsonValue

from nsa.config import CheckSettings, DtypeByDevice, RooflineSettings
from nsa.kernels.triton.plan import LaunchConfig
from nsa.kernels.triton.tuning import Tuned, Tuning
from nsa.machine.host import Host
from nsa.records.facts import Device, Digests, Provenance
from nsa.records.merge import Merge, Model
from nsa.settings import Settings, parse


class StepSizes(Settings):
    """What the selection of a decode step gives the kernel."""

    rows: int
    groups: int
    heads_per_group: int
    head_dim: int
    value_dim: int
    sel_block: int
    sel_count: int
    dtype: DtypeByDevice


@dataclass(frozen=True)
class Sizes:
    """What will be measured: the selection of a decode step, and the shapes of the kernel check and the roofline."""

    step: StepSizes
    check: CheckSettings
    roofline: RooflineSettings

    @classmethod
    def of(cls, settings: dict[str, JsonValue], source: str) -> Self:
        """Build from the settings that the stage's stamp, the source, calls sizes.

        Raises:
            ConfigError: they are not sizes.
        """
        return cls(
            parse(StepSizes, settings["step"], source),
            parse(CheckSettings, settings["check"], source, complete=False),
            parse(RooflineSettings, settings["roofline"], source, complete=False),
        )


@dataclass(frozen=True)
class Job:
    """The sizes that fall to one of the stage's processes: every `of`-th one, from the process's number on."""

    sizes: Sizes
    host: Host
    process: int
    of: int


class Tried(Model):
    """One launch configuration on one size: why it is out, or its median time."""

    plan: LaunchConfig
    fault: str | None
    median_us: float | None
    repetitions: int


class TunedSize(Tuned):
    """What the backend reads of a size, with all that were tried.

    aa_ratio is the A/A control: the rule's own configuration, captured and timed twice.
    """

    model_config = ConfigDict(extra="forbid")

    rule: LaunchConfig
    candidates: tuple[Tried, ...]
    aa_ratio: float | None


class TuneFacts(Model):
    """What the configurations hold for, and every size."""

    device: Annotated[Device, Merge.SAME]
    tuned_for: Annotated[str, Merge.SAME]
    sizes: Annotated[tuple[TunedSize, ...], Merge.EACH]


class TuneArtifact(Tuning):
    """What the backend reads, with where it comes from; it has sizes where its status is ok."""

    model_config = ConfigDict(extra="forbid")

    backend: Literal["triton"] = "triton"
    device: Device
    sizes: tuple[TunedSize, ...]
    provenance: Provenance
    stamp: Digests
