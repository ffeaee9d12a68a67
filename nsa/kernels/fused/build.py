"""The build stage of the decode core's extension."""

from __future__ import annotations

from pathlib import Path

from nsa.kernels.extension import build

EXTENSION = build.Extension("fused", Path(__file__).parent / "csrc")


def run(stamp: Path, environment: Path, out: Path) -> None:
    """The stage: build as its stamp's settings say."""
    build.run(EXTENSION, stamp, out)
