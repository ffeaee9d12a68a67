"""What gate.json says as an exit status: for `nsa check`, and with it for continuous integration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from nsa.records import files
from nsa.records.facts import SCHEMA_VERSION
from nsa.records.merge import Model
from nsa.report.verdict.checks import BLOCKING
from nsa.report.verdict.gates import INCONCLUSIVE, NOT_MEASURED, REJECT

FAILED = "failed"  # of an outcome


class Part(Model):
    """What is read of gate.json; it holds more."""

    model_config = ConfigDict(extra="ignore")


class InvestVerdict(Part):
    """Of the invest gate."""

    verdict: str
    reason: str


class AcceptVerdict(Part):
    """Of one candidate, with what became of its kernel check."""

    verdict: str
    wrong_shapes: tuple[str, ...]
    status: str | None = None
    reason: str = ""


class State(Part):
    """What became of a backend's own stage."""

    status: str
    reason: str | None


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
    decode: tuple[Cell, ...] = ()
    artifacts: dict[str, State] = Field(default_factory=dict)
    anomalies: tuple[Anomaly, ...]
    comparison: Change


def exit_status(gate_json: Path) -> tuple[int, str]:
    """The exit status of `nsa check` and the line that explains it.

    0: the invest gate says GO or NO-GO, no kernel is rejected, wrong or failed, no blocking check fired.
    1: a kernel is rejected, gives wrong results or failed, a blocking check fired, a gate is INCONCLUSIVE, something is
       slower than in the accepted run beyond the margin, or that run's file is broken.
    3: nothing is wrong, but the invest gate is NOT MEASURED.

    Raises:
        RecordError: the file is missing, is not JSON or was not written by the report.
    """
    gate = files.read_model(gate_json, Gate)
    faults = []
    for name, found in gate.accept.items():
        if found.verdict == REJECT:
            faults.append(f"{name} is rejected")
        elif found.wrong_shapes:
            faults.append(f"{name} gives wrong results")
        elif found.verdict == INCONCLUSIVE:
            faults.append(f"accept of {name} is {INCONCLUSIVE}")
        elif found.status == FAILED:
            faults.append(f"accept: {found.reason}")
    faults += [f"{cell.backend} failed at S = {cell.S}: {cell.reason}" for cell in gate.decode if cell.status == FAILED]
    faults += [
        f"the own stage of {name} failed: {state.reason}"
        for name, state in gate.artifacts.items()
        if state.status == FAILED
    ]
    faults += [
        f"{check.name} on {check.cell}: {check.message}" for check in gate.anomalies if check.severity == BLOCKING
    ]
    if gate.comparison.decides:
        faults += gate.comparison.regressions
    if gate.comparison.status == "invalid":
        faults.append(gate.comparison.reason)
    if gate.invest.verdict == INCONCLUSIVE:
        faults.append(f"invest is {INCONCLUSIVE}: {gate.invest.reason}")
    if faults:
        return 1, "; ".join(faults)
    status = 3 if gate.invest.verdict == NOT_MEASURED else 0
    return status, f"invest: {gate.invest.verdict}. {gate.invest.reason}"
