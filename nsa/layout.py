"""Where results lie: the only module that spells a result's path; rules, readers, `doctor` and fixes ask it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

RESULTS = Path("results")
ACCEPTED = Path("accepted")  # accepted runs, kept in git
HISTORY = Path("history")  # what every run measured, kept where it ran
BACKEND, CONTEXT = "{backend}", "{S}"  # Snakemake's wildcards


@dataclass(frozen=True)
class Layout:
    """The files of one results folder; a backend or context may be a wildcard, BACKEND or CONTEXT."""

    root: Path = RESULTS

    # What is measured, and what that starts from.

    @property
    def environment(self) -> Path:
        """The probed machine."""
        return self.root / "environment.json"

    def artifact(self, relative: str) -> Path:
        """What a backend's own stage makes, such as build/cuda.json (backends.Stage.artifact)."""
        return self.root / relative

    def cell(self, backend: str = BACKEND, S: int | str = CONTEXT) -> Path:
        """One decode cell."""
        return self.root / "decode" / backend / f"S{S}.parquet"

    def check(self, backend: str = BACKEND) -> Path:
        """A backend's kernel check."""
        return self.root / f"check_{backend}.parquet"

    def dram(self, backend: str = BACKEND) -> Path:
        """The DRAM bytes of a backend's kernel."""
        return self.root / f"dram_{backend}.json"

    @property
    def roofline(self) -> Path:
        """Every kernel beside the memory floor."""
        return self.root / "roofline.parquet"

    def core(self, backend: str = BACKEND) -> Path:
        """A backend's core check."""
        return self.root / "core" / f"{backend}.parquet"

    def core_curve(self, backend: str = BACKEND) -> Path:
        """The times of a backend's core over S and B."""
        return self.root / "core_curve" / f"{backend}.parquet"

    def record(self, name: str) -> Path:
        """The record of a cell or check by the name that reports have for it: sdpa/S1024, check_cuda or core/fused."""
        backend, _, context = name.partition("/S")
        return self.cell(backend, context) if context else self.root / f"{name}.parquet"

    # What is made of it.

    def summary(self, backend: str = BACKEND) -> Path:
        """A backend's decode cells as one table, for those who ask for it."""
        return self.root / f"decode_{backend}.parquet"

    @property
    def report(self) -> Path:
        """The gate report."""
        return self.root / "gate_report.md"

    @property
    def html(self) -> Path:
        """The same as one page."""
        return self.root / "gate_report.html"

    @property
    def previous_report(self) -> Path:
        """The last good report, while a new one is made."""
        return self.root / "gate_report.previous.md"

    @property
    def kept_report(self) -> Path:
        """A copy of the report that Snakemake does not delete."""
        return self.root / ".gate_report.md"

    @property
    def gate(self) -> Path:
        """Both verdicts for machines, with the configuration that they are of."""
        return self.root / "gate.json"

    @property
    def run_file(self) -> Path:
        """The configuration of the run, as a file that `snakemake --configfile` takes."""
        return self.root / "run.yaml"

    @property
    def csv(self) -> Path:
        """The guide's decode.csv."""
        return self.root / "decode.csv"

    @property
    def checks(self) -> Path:
        """Every automatic check."""
        return self.root / "checks.parquet"

    @property
    def figures(self) -> Path:
        """The folder of the report's figures."""
        return self.root / "figures"

    @property
    def roofline_page(self) -> Path:
        """The table of the roofline."""
        return self.root / "roofline.md"

    @property
    def paper_table(self) -> Path:
        """The paper's table 4 on this machine's clock."""
        return self.root / "paper_table4.md"

    @property
    def paper_figures(self) -> Path:
        """Its figures for machines."""
        return self.root / "paper_table4.parquet"

    @property
    def paper_drawing(self) -> Path:
        """Its figures drawn."""
        return self.root / "paper_table4.svg"

    @property
    def curve_page(self) -> Path:
        """The table of how a core's time grows with S and B."""
        return self.root / "core_curve.md"

    @property
    def curve_figures(self) -> Path:
        """Its figures for machines."""
        return self.root / "core_curve.parquet"

    @property
    def curve_drawing(self) -> Path:
        """Its figures drawn."""
        return self.root / "core_curve.svg"

    # What a run keeps for itself.

    @property
    def stamps(self) -> Path:
        """The folder of the stages' stamps."""
        return self.root / ".stamps"

    def stamp(self, stage: str) -> Path:
        """The stamp of one stage."""
        return self.stamps / f"{stage}.json"

    @property
    def lock(self) -> Path:
        """Held by the run that is at work here."""
        return self.root / ".lock"

    @property
    def bench_build(self) -> Path:
        """The manifest of the CUDA extension that `nsa bench` builds for itself."""
        return self.root / ".bench-build" / "cuda.json"

    def log(self, stage: str) -> Path:
        """What a job said: of a stage, or of a part of it such as decode/cuda/S128."""
        return self.root / "logs" / f"{stage}.log"

    def taken(self, relative: str) -> bool:
        """Whether a path in the results folder is one of those above, or below one: no backend's stage writes there."""
        of_backends = (
            self.cell("*"),
            self.check("*"),
            self.dram("*"),
            self.summary("*"),
            self.core("*"),
            self.core_curve("*"),
            self.log("*"),
        )
        reports = (self.report, self.html, self.previous_report, self.gate, self.run_file, self.csv, self.checks)
        papers = (self.paper_table, self.paper_figures, self.paper_drawing)
        curves = (self.curve_page, self.curve_figures, self.curve_drawing)
        of_all = (self.environment, self.roofline, self.roofline_page, self.figures, *papers, *curves, *reports)
        first = Path(relative).parts[0]
        known = (path.relative_to(self.root).parts[0] for path in (*of_backends, *of_all))
        return first.startswith(".") or any(fnmatchcase(first, pattern) for pattern in known)


def cell_of(path: Path) -> tuple[str, int] | None:
    """The backend and the context that a cell's path names; None of any other path."""
    match = re.fullmatch(r"S(\d+)", path.stem)
    return (path.parent.name, int(match[1])) if match and path.suffix == ".parquet" else None


def backend_of(path: Path) -> str | None:
    """The backend that the path of a summary, a check or a DRAM count names; None of any other path."""
    match = re.fullmatch(r"(?:decode|check|dram)_(.+)", path.stem)
    return match[1] if match else None
