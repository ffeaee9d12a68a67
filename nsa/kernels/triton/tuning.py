"""What the tuning stage's artifact says to the backend; of all that it records this is what the kernel needs."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import ConfigDict

from nsa.kernels.triton.plan import LaunchConfig, Size
from nsa.kernels.triton.spec import ARTIFACT
from nsa.layout import Layout
from nsa.machine.host import Artifact
from nsa.records import files
from nsa.records.merge import Model

PATH = Layout().artifact(ARTIFACT)
AGAIN = f"delete {PATH}, then run `snakemake {PATH}`"


class Tuned(Model):
    """One size, and its fastest right launch configuration; None where none was right."""

    model_config = ConfigDict(extra="ignore")  # the candidates and their times

    size: Size
    plan: LaunchConfig | None


class Tuning(Model):
    """What was tuned, and for which device and software; or why nothing was."""

    model_config = ConfigDict(extra="ignore")  # where it comes from

    status: Literal["ok", "unavailable", "failed", "oom", "skipped"]
    reason: str | None
    fix: str | None
    tuned_for: str | None
    sizes: tuple[Tuned, ...]

    @property
    def ended_badly(self) -> bool:
        """Whether it was to tune and did not; where the backend is unavailable there was nothing to tune."""
        return self.status not in ("ok", "unavailable")

    @property
    def plans(self) -> dict[Size, LaunchConfig]:
        """The launch configurations by size."""
        return {tuned.size: tuned.plan for tuned in self.sizes if tuned.plan is not None}


def of(artifact: Artifact) -> Tuning:
    """The tuning in an artifact's JSON.

    Raises:
        RecordError: it is none.
    """
    return files.parse(PATH, json.dumps(artifact).encode(), Tuning)
