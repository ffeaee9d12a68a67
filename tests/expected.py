"""The jobs that a change brings to the finished project, named as Project.planned names them."""

from __future__ import annotations

from collections.abc import Iterable

BACKENDS = ("sdpa", "cuda", "triton", "fa2")
S = 128  # the only context of the finished project
NOTHING: set[str] = set()
REPORT = {"report"}
BUILD, TUNE = "artifact cuda", "artifact triton"  # what a backend's own stage makes for it


def each(stage: str, backends: Iterable[str] = BACKENDS) -> set[str]:
    """This stage of these backends."""
    return {f"{stage} {backend}" for backend in backends}


def decoded(*backends: str, S: int = S) -> set[str]:
    """What new times of a decode step bring: the cell of these backends and the report."""
    return {f"decode {backend} {S}" for backend in backends} | REPORT


def backend(*names: str) -> set[str]:
    """Everything that is measured of these backends."""
    return decoded(*names) | each("check", names) | each("dram", names)


ALL = {"environment", BUILD, TUNE} | backend(*BACKENDS)


def of_stages(names: Iterable[str]) -> set[str]:
    """What new stamps of these stages bring: their own jobs, and those that read what these make."""
    jobs: set[str] = set()
    for stage, _, name in (name.partition("-") for name in names):
        if stage == "environment":
            jobs |= ALL
        elif stage == "report":
            jobs |= REPORT
        elif name in BACKENDS and stage == "artifact":
            jobs |= {f"artifact {name}"} | backend(name)
        elif name in BACKENDS and stage == "decode":
            jobs |= decoded(name)
        elif name in BACKENDS and stage in ("check", "dram"):
            jobs |= {f"{stage} {name}"} | REPORT
    return jobs
