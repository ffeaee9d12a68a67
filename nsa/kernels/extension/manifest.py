"""What the build stage writes: whether there is an extension, for which GPUs, and what the compiler said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from nsa.layout import Layout
from nsa.machine.host import Artifact
from nsa.records import files
from nsa.records.facts import Digests
from nsa.records.merge import Model


class Step(Model):
    """One run of the compiler."""

    source: str  # the library's name, of the linking
    command: tuple[str, ...]
    reused: bool  # the object of an earlier build, from the same inputs
    duration_s: float


class Kernel(Model):
    """What the assembler says of one kernel."""

    kernel: str
    arch: str  # sm_90a
    stack_bytes: int | None = None
    spill_bytes: int | None = None
    registers: int | None = None
    smem_bytes: int | None = None  # static shared memory


class Manifest(Model):
    """What a build made, or why it made nothing.

    Attributes:
        archs: nvcc's names of the architectures that it has code for, such as "90a".
        library_sha256: the library's own digest: one that was cut short, or replaced, is known before it is loaded.
        digest: of all that the library is made of.
        nvcc_obeys: the variables beside the commands that the compiler obeyed, such as NVCC_APPEND_FLAGS.
        log: the compiler's words, of a failure.
        stamp: what the build was made under; None outside of the pipeline.
    """

    status: Literal["built", "skipped", "failed"]
    reason: str | None = None
    fix: str | None = None
    library: str | None = None
    library_sha256: str | None = None
    archs: tuple[str, ...] = ()
    digest: str | None = None
    nvcc_path: str | None = None
    nvcc_version: str | None = None
    nvcc_obeys: dict[str, str] = Field(default_factory=dict)
    log: str | None = None
    objects: tuple[Step, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    warnings: tuple[str, ...] = ()
    duration_s: float = 0.0
    stamp: Digests | None = None

    @model_validator(mode="after")
    def _built_means_a_library(self) -> Self:
        if self.status == "built" and (self.library is None or self.library_sha256 is None):
            raise ValueError("a build that is built, without a library")
        return self

    @property
    def built(self) -> Path:
        """The library of a build that is built."""
        return Path(str(self.library))


def path(name: str) -> Path:
    """Where the manifest of a backend's extension is, as messages name it."""
    return Layout().artifact(artifact(name))


def artifact(name: str) -> str:
    """The artifact of a backend's build stage, in the results folder."""
    return f"build/{name}.json"


def of(name: str, artifact: Artifact) -> Manifest:
    """The manifest in the JSON of a backend's artifact.

    Raises:
        RecordError: it is no manifest.
    """
    return files.parse(path(name), json.dumps(artifact).encode(), Manifest)
