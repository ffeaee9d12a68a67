"""What a run left, read and judged: its records, its figures, the automatic checks and both gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from nsa.config import CheckSettings, Config, CoreSettings
from nsa.records.facts import CheckFacts, CoreFacts, Device, Environment, TimedFacts
from nsa.records.outcome import Invalid
from nsa.report.analysis import aa
from nsa.report.analysis.control import controlled
from nsa.report.analysis.core import off_core_grid, read_core
from nsa.report.analysis.kernel import off_grid
from nsa.report.analysis.read import Record, Stamps, primary_rows, read_cell, read_check
from nsa.report.analysis.replicates import again_ratio, cell_paces
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import CellSummary, summarise
from nsa.report.verdict.checks import Check, blocking_checks, record_checks
from nsa.report.verdict.cores import CoreAccept, accept_core, core_checks
from nsa.report.verdict.gates import Accept, accept
from nsa.report.verdict.invest import Invest, invest
from nsa.report.verdict.kernel_checks import kernel_checks
from nsa.report.verdict.launches import skipped_part_launched
from nsa.report.verdict.machine import machine_checks, replicates_differ
from nsa.report.verdict.step_checks import step_checks
from nsa.report.verdict.warnings import warning_checks

R = TypeVar("R", bound=Record[TimedFacts])


@dataclass(frozen=True)
class Run:
    """Every record of one run as today sees it, and what the run says.

    Attributes:
        cells: in the order of the configuration's backends, then by S.
        kernel: the kernel checks by backend.
        cores: the core checks by backend; later runs are not compared with them.
        controls: the A/A control of every record that has one with an interval, by the record's name.
    """

    cells: tuple[CellSummary, ...]
    kernel: Mapping[str, Record[CheckFacts]]
    cores: Mapping[str, Record[CoreFacts]]
    controls: Mapping[str, aa.Control]
    checks: tuple[Check, ...]
    invest: Invest
    accepts: tuple[Accept, ...]
    core_accepts: tuple[CoreAccept, ...]

    @property
    def records(self) -> dict[str, Record[TimedFacts]]:
        """Every record that an accepted run keeps, by its name."""
        found: list[Record[TimedFacts]] = [each.cell for each in self.cells]
        return {record.name: record for record in [*found, *self.kernel.values()]}

    @property
    def measured(self) -> list[Record[TimedFacts]]:
        """The records whose figures may be used; all are of one device model."""
        return [record for record in self.records.values() if record.ok]

    @property
    def device(self) -> Device | None:
        """What measured it, whichever of its cards; None when nothing was measured."""
        return next((record.facts.device for record in self.measured), None)


def read_run(
    environment: Environment,
    cells: Sequence[Path],
    checks: Sequence[Path],
    stamps: Stamps,
    config: Config,
    cores: Sequence[Path] = (),
) -> Run:
    """Read a run's records, make every automatic check, and decide both gates.

    Args:
        environment: what the probe recorded; its device is the model that every record must be of.
        cells, checks: results/decode/*/S*.parquet, results/check_*.parquet.
        stamps: today's digests by stage.
        config: what decides.
        cores: results/core/*.parquet.

    Raises:
        RecordError: a path names no cell or no backend.
    """
    order = {backend: place for place, backend in enumerate(config.backends)}
    read = [of_one_model(read_cell(path, stamps), environment) for path in cells]
    found = [of_one_model(read_check(path, stamps), environment) for path in checks]
    kernel = {record.backend: of_the_grid(record, config.check) for record in found}
    looked = [of_one_model(read_core(path, stamps), environment) for path in cores]
    core = {record.backend: of_the_core_grid(record, config.core) for record in looked}
    summaries = summarise(read, config.gates.confidence)
    summaries.sort(key=lambda each: (order.get(each.backend, len(order)), each.S))
    timed: list[Record[CheckFacts] | Record[CoreFacts]] = [*kernel.values(), *core.values()]
    again = {record.name: ratio for record in timed if (ratio := again_of(record, config)) is not None}
    controls = controls_of(summaries, timed, again, config.gates.confidence)
    made = run_checks(summaries, kernel, core, again, controls, config)
    candidates = [backend for backend in config.selecting if backend != config.baseline]
    return Run(
        cells=tuple(summaries),
        kernel=kernel,
        cores=core,
        controls=controls,
        checks=tuple(made),
        invest=invest(config.baseline, config.targets, summaries, made, config.gates, environment.unused_gpu),
        accepts=tuple(accept(backend, kernel.get(backend), made, config.check, config.gates) for backend in candidates),
        core_accepts=tuple(
            accept_core(backend, core.get(backend), made, config.core, config.gates) for backend in config.coring
        ),
    )


def run_checks(
    cells: Sequence[CellSummary],
    kernel: Mapping[str, Record[CheckFacts]],
    cores: Mapping[str, Record[CoreFacts]],
    again: Mapping[str, Estimate],
    controls: Mapping[str, aa.Control],
    config: Config,
) -> list[Check]:
    """Every automatic check: on each record, and on what may be used of it."""
    found = [check for each in cells for check in record_checks(each.cell)]
    records: list[Record[TimedFacts]] = [*(each.cell for each in cells), *kernel.values(), *cores.values()]
    moves = {record.name: controlled(record) for record in records if record.ok and record.on_cuda}
    for record in kernel.values():
        found += record_checks(record)
        if record.ok:
            control = controls.get(record.name)
            found += kernel_checks(record, record.name in again, control, moves, config.check, config.gates)
    for core in cores.values():
        found += record_checks(core)
        if core.ok:
            found += core_checks(core, controls.get(core.name), moves, config.core, config.gates)
    for each in cells:
        if each.figures is not None:
            found += blocking_checks(each.cell, each.figures, controls.get(each.cell.name))
            found += step_checks(each.cell.name, each.cell.facts)
            found.append(skipped_part_launched(each.cell.name, each.cell.facts))
            found += warning_checks(each.cell, each.figures)
            if each.cell.on_cuda:
                found += machine_checks(each.cell, primary_rows(each.cell), moves)
                found += replicates_differ(each.cell.name, cell_paces(each.cell))
    return found


def again_of(record: Record[TimedFacts], config: Config) -> Estimate | None:
    """The A/A ratio of a kernel or a core that was timed twice."""
    return again_ratio(record, config.gates.confidence) if record.ok and record.on_cuda else None


def controls_of(
    cells: Sequence[CellSummary],
    timed: Sequence[Record[TimedFacts]],
    again: Mapping[str, Estimate],
    confidence: float,
) -> dict[str, aa.Control]:
    """The run's A/A controls: of every cell, and of every kernel and core that was timed twice."""
    ratios = {each.cell.name: (each.figures.device, each.figures.arms.aa_ratio) for each in cells if each.figures}
    ratios |= {record.name: (record.facts.device, again[record.name]) for record in timed if record.name in again}
    return aa.controls(ratios, confidence)


def of_one_model(record: R, environment: Environment) -> R:
    """The record as it is, or INVALID where another model measured it than the one that this report is of.

    Two GPUs of one model are alike; two models in one table would be compared as if they were backends.
    """
    if not record.ok:
        return record
    device = record.facts.device
    expected = environment.cpu if device.kind == "cpu" else environment.device
    if device.name == expected:
        return record
    reason = f"{record.name} was measured on {device.name}, and this run is of {expected}"
    return _refused(record, Invalid(reason=reason, fix="rerun it on one model of GPU"))


def of_the_grid(record: Record[CheckFacts], settings: CheckSettings) -> Record[CheckFacts]:
    """The kernel check as it is, or INVALID where its rows are not of the grid that the settings ask for."""
    other = off_grid(record, settings) if record.ok else None
    if other is None:
        return record
    return _refused(record, Invalid(reason=f"{record.name}: {other}", fix="delete it and rerun"))


def of_the_core_grid(record: Record[CoreFacts], settings: CoreSettings) -> Record[CoreFacts]:
    """The core check as it is, or INVALID where its shapes are not of the grid that the settings ask for."""
    other = off_core_grid(record, settings) if record.ok else None
    if other is None:
        return record
    return _refused(record, Invalid(reason=f"{record.name}: {other}", fix="delete it and rerun"))


def _refused(record: R, why: Invalid) -> R:
    return replace(record, outcome=why, rows=record.rows[:0])
