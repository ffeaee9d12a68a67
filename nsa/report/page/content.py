"""What the report's pages show, made once of the run: the Markdown and the HTML have the same figures and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ConfigDict

from nsa.config import Config, GateSettings
from nsa.layout import Layout
from nsa.records.dram import DramFacts
from nsa.records.facts import Environment
from nsa.records.merge import Model
from nsa.report.accepted.compare import Comparison
from nsa.report.analysis.read import Record
from nsa.report.analysis.summary import CellSummary
from nsa.report.page import reproduce, tables
from nsa.report.page.conditions import conditions
from nsa.report.page.cores import core_corner_line, core_table
from nsa.report.page.dram import absent, dram_table, not_counted
from nsa.report.page.history import Past, history_table
from nsa.report.page.invest_tables import next_table, shares_table
from nsa.report.page.packed_variants import packed_variants_table
from nsa.report.page.tables import Table
from nsa.report.verdict.checks import Check
from nsa.report.verdict.cores import CoreAccept
from nsa.report.verdict.gates import Accept, percent
from nsa.report.verdict.invest import Invest
from nsa.report.verdict.run import Run

LOG_LINES = 20


class Build(Model):
    """What the report shows of the CUDA build's manifest, which holds more."""

    model_config = ConfigDict(extra="ignore")

    status: str
    reason: str | None = None
    fix: str | None = None
    log: str | None = None

    @property
    def end_of_log(self) -> str:
        """Where a compiler says what is wrong."""
        return "\n".join((self.log or "").splitlines()[-LOG_LINES:])


@dataclass(frozen=True)
class Content:
    """The content of both pages: verdicts, figures, and tables as text.

    Attributes:
        kernels: each candidate with its table and the line on its corner cases.
        cores: each decode core likewise.
        unselected: the backends with a decode core alone.
        thresholds: of the accept gate, as text.
        config: the configuration as YAML.
    """

    invest: Invest
    accepts: tuple[Accept, ...]
    change: Comparison
    past: Past
    cells: tuple[CellSummary, ...]
    fired: tuple[Check, ...]
    checks: int
    gates: GateSettings
    conditions: Sequence[str]
    contexts: Table
    not_run: Sequence[str]
    parts: Table
    shares: Table
    nexts: Table
    ceiling: Table
    anomalies: Sequence[str]
    thresholds: Mapping[str, str]
    confidence: str
    kernels: Sequence[tuple[Accept, Table, str | None]]
    cores: Sequence[tuple[CoreAccept, Table, str | None]]
    unselected: Sequence[str]
    packed: Table | None
    dram: Table
    not_counted: Sequence[str]
    changes: Table
    history: Table
    about: Environment
    environment: Table
    build: Build
    provenance: Table
    config: str
    commits: Sequence[str]
    reproduce: str
    dirty: bool
    measured_utc: Sequence[str]  # when the records used were measured, ascending
    run_file: str
    report: str


def content(
    run: Run,
    change: Comparison,
    before: Past,
    counted: Sequence[Record[DramFacts]],
    about: Environment,
    build: Build,
    origin: Mapping[str, set[str]],
    config: Config,
    layout: Layout,
) -> Content:
    """What the pages show of a run.

    Args:
        change: the run beside the accepted one.
        before: the history that it is a part of.
        counted: the DRAM counts.
        origin: what the records say of where they come from, see tables.provenance.
    """
    packed = run.kernel.get(config.baseline)
    commits = sorted(origin.get("git_commit", ()))
    return Content(
        invest=run.invest,
        accepts=run.accepts,
        change=change,
        past=before,
        cells=run.cells,
        fired=tuple(check for check in run.checks if check.fired),
        checks=len(run.checks),
        gates=config.gates,
        conditions=conditions(run.cells),
        contexts=tables.context_table(run.cells, run.invest),
        not_run=tables.not_run(run.cells),
        parts=tables.parts_table(run.cells),
        shares=shares_table(run.cells, config.baseline, config.gates),
        nexts=next_table(run.cells, config.baseline),
        ceiling=tables.ceiling_table(run.cells, config.baseline, config.selecting),
        anomalies=tables.anomalies(run.checks),
        thresholds={name: f"{value:g}" for name, value in config.gates.accept.model_dump().items()},
        confidence=percent(config.gates.confidence),
        kernels=[(found, tables.kernel_table(found), tables.corner_line(found)) for found in run.accepts],
        cores=[(found, core_table(found), core_corner_line(found)) for found in run.core_accepts],
        unselected=[backend for backend in config.backends if backend not in config.selecting],
        packed=packed_variants_table(packed, config.check, config.gates) if packed else None,
        dram=dram_table(counted),
        not_counted=not_counted(absent(counted)),
        changes=tables.change_table(change),
        history=history_table(before.series),
        about=about,
        environment=tables.facts_table(about.model_dump(mode="json")),
        build=build,
        provenance=tables.provenance_table(origin),
        config=reproduce.run_file(config).strip(),
        commits=commits,
        reproduce=reproduce.commands(config, commits, layout),
        dirty="True" in origin.get("git_dirty", ()),
        measured_utc=sorted(origin.get("utc_time", ())),
        run_file=str(layout.run_file),
        report=str(layout.report),
    )
