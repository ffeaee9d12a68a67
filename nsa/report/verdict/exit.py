"""What gate.json says as an exit status: for `nsa check`, and with it for continuous integration."""

from __future__ import annotations

from pathlib import Path

from pydantic import ConfigDict

from nsa.records import files
from nsa.records.merge import Model
from nsa.report.verdict.checks import BLOCKING
from nsa.report.verdict.gates import INCONCLUSIVE, NOT_MEASURED, REJECT


class Part(Model):
    """What is read of gate.json; it holds more."""

    model_config = ConfigDict(extra="ignore")


class InvestVerdict(Part):
    """Of the invest gate."""

    verdict: str
    reason: str


class AcceptVerdict(Part):
    """Of one candidate."""

    verdict: str
    wrong_shapes: tuple[str, ...]


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

    invest: InvestVerdict
    accept: dict[str, AcceptVerdict]
    anomalies: tuple[Anomaly, ...]
    comparison: Change


def exit_status(gate_json: Path) -> tuple[int, str]:
    """The exit status of `nsa check` and the line that explains it.

    0: the invest gate says GO or NO-GO, no kernel is rejected or wrong, no blocking check fired.
    1: a kernel is rejected or gives wrong results, a blocking check fired, a gate is INCONCLUSIVE, something is slower
       than in the accepted run beyond the margin, or that run's file is broken.
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
