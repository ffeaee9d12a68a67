"""The records that a report was made from: what is kept of a run is what its report shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from nsa.errors import RecordError
from nsa.report.accepted.keep import identity_of
from nsa.report.verdict.run import Run

KEY = "records"  # of gate.json


def identities(run: Run) -> dict[str, JsonValue]:
    """For gate.json: when each record was measured and of what; null of one that cannot be read."""
    records = {**run.records, **{core.name: core for core in run.cores.values()}}
    found = {name: identity_of(record) for name, record in records.items()}
    return {name: None if identity is None else identity.model_dump(mode="json") for name, identity in found.items()}


def refuse_others(run: Run, gate: Mapping[str, JsonValue], path: Path) -> None:
    """Refuse a run whose records are not those of its report.

    Args:
        run: the records as they are now.
        gate: the content of the report's gate.json.
        path: where that is.

    Raises:
        RecordError: a record was measured again since, or the report does not say which it is of.
    """
    then = gate.get(KEY)
    if not isinstance(then, dict):
        raise RecordError(f"accept: {path} does not say which records it is of; run `snakemake`")
    for name, identity in identities(run).items():
        if identity is not None and then.get(name) != identity:  # what cannot be read `keep` refuses with its reason
            raise RecordError(
                f"accept: {name} was measured again since {path} was made, expected what the report shows; "
                "run `snakemake`"
            )
