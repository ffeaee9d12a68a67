"""What gate.json says: the lines that close a run at the console, and the exit status of `nsa check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from nsa.records import files
from nsa.records.facts import SCHEMA_VERSION, Environment
from nsa.records.merge import Model
from nsa.report.verdict.words import BLOCKING, INCONCLUSIVE, NOT_MEASURED, REJECT

FAILED, NO_MEMORY = "failed", "oom"  # of an outcome


class Part(Model):
    """What is read of gate.json; it holds more."""

    model_config = ConfigDict(extra="ignore")


class InvestVerdict(Part):
    """Of the invest gate."""

    verdict: str
    reason: str


class AcceptVerdict(Part):
    """Of one kernel or decode core, with what became of its check."""

    verdict: str
    wrong_shapes: tuple[str, ...]
    status: str | None = None
    reason: str = ""
    fix: str | None = None


class State(Part):
    """What became of a backend's own stage."""

    status: str
    reason: str | None
    fix: str | None = None

    @property
    def why(self) -> str:
        """The reason, and the fix where there is one."""
        return "; ".join(said for said in (self.reason, self.fix) if said)


class Cell(State):
    """What became of a decode cell."""

    backend: str
    S: int


class Anomaly(Part):
    """A check that fired."""

    name: str
    severity: str
    cell: str
    message: str


class Change(Part):
    """The comparison with the accepted run."""

    status: str
    reason: str
    decides: bool
    regressions: tuple[str, ...]


class Gate(Part):
    """gate.json."""

    schema_version: Literal[2] = SCHEMA_VERSION
    invest: InvestVerdict
    accept: dict[str, AcceptVerdict]
    cores: dict[str, AcceptVerdict] = Field(default_factory=dict)
    decode: tuple[Cell, ...] = ()
    artifacts: dict[str, State] = Field(default_factory=dict)
    anomalies: tuple[Anomaly, ...]
    comparison: Change
    environment: Environment | None = None

    @property
    def accepts(self) -> dict[str, AcceptVerdict]:
        """Every verdict on a kernel or a decode core, by what it is of."""
        return self.accept | {f"the core of {name}": found for name, found in self.cores.items()}


@dataclass(frozen=True)
class Said:
    """What a run says.

    Attributes:
        status: the exit status of `nsa check`.
        lines: a GPU that was not used, one for each gate, one for each fault.
    """

    status: int
    lines: tuple[str, ...]


def read(gate_json: Path) -> Said:
    """The verdicts of a report, and what its exit status is.

    0: the invest gate says GO or NO-GO, no kernel or core is rejected, wrong or failed, no blocking check fired.
    1: a kernel or a core is rejected, gives wrong results or failed, a blocking check fired, a gate is INCONCLUSIVE,
       something is slower than in the accepted run beyond the margin, or that run's file is broken.
    3: nothing is wrong, but the invest gate is NOT MEASURED.

    Raises:
        RecordError: the file is missing, is not JSON or was not written by the report.
    """
    gate = files.read_model(gate_json, Gate)
    faults = _faults(gate)
    machine = gate.environment
    unused = [f"gpu: {machine.unused_gpu}; {machine.fix}"] if machine and machine.unused_gpu else []
    gates = [f"invest: {gate.invest.verdict}. {gate.invest.reason}"]
    gates += [
        " ".join(filter(None, (f"accept {name}: {found.verdict}.", found.reason, _advice(found.fix))))
        for name, found in gate.accepts.items()
    ]
    too_large = [f"oom: {cell.backend} at S = {cell.S}: {cell.why}" for cell in gate.decode if cell.status == NO_MEMORY]
    status = 1 if faults or _undecided(gate) else 3 if gate.invest.verdict == NOT_MEASURED else 0
    return Said(status, (*unused, *gates, *faults, *too_large))


def _undecided(gate: Gate) -> bool:
    """Whether a gate's own line is a reason to fail."""
    verdicts = {found.verdict for found in gate.accepts.values()}
    failed = any(found.wrong_shapes or found.status == FAILED for found in gate.accepts.values())
    return failed or INCONCLUSIVE in verdicts | {gate.invest.verdict} or REJECT in verdicts


def _faults(gate: Gate) -> list[str]:
    """What is wrong beside the verdicts, a line for each."""
    faults = [f"failed: {cell.backend} at S = {cell.S}: {cell.why}" for cell in gate.decode if cell.status == FAILED]
    faults += [
        f"failed: the own stage of {name}: {state.why}"
        for name, state in gate.artifacts.items()
        if state.status == FAILED
    ]
    faults += [
        f"blocking check: {check.name} on {check.cell}: {check.message}"
        for check in gate.anomalies
        if check.severity == BLOCKING
    ]
    if gate.comparison.decides:
        faults += [f"regression: {line}" for line in gate.comparison.regressions]
    if gate.comparison.status == "invalid":
        faults.append(f"the accepted run: {gate.comparison.reason}")
    return faults


def _advice(fix: str | None) -> str | None:
    """A fix as a sentence of its own."""
    return f"{fix[0].upper()}{fix[1:]}." if fix else None
