"""What a record says of itself, on its way through Parquet and JSON: what comes back is what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from records.examples import FACTS, GPU
from standins import DIGESTS, PROVENANCE

from nsa.errors import RecordError
from nsa.records import files, parquet
from nsa.records.decode import DecodeFacts
from nsa.records.facts import SCHEMA_VERSION
from nsa.records.merge import Model
from nsa.records.outcome import Failed, Header, NotRun, Ok, OutOfMemory, Skipped, Unavailable

SCHEMA = pa.schema([("S", pa.int32())])
NOT_RUN: list[NotRun] = [kind(reason="why", fix="what to do") for kind in (Unavailable, Failed, OutOfMemory, Skipped)]


def header(outcome: Ok[Any] | NotRun, facts: type[Model], **more: Any) -> Header[Any]:
    """A record with this outcome."""
    return Header[facts](stage="a stage", device=GPU, outcome=outcome, provenance=PROVENANCE, stamp=DIGESTS, **more)


def there_and_back(path: Path, written: Header[Any], facts: type[Model]) -> tuple[Header[Any], Header[Any]]:
    """The header as Parquet and JSON give it back."""
    parquet.write(path / "r.parquet", [{"S": 1}], SCHEMA, written)
    files.write_model(path / "r.json", written)
    kind = Header[facts]
    return parquet.read(path / "r.parquet", kind, SCHEMA)[1], files.read_model(path / "r.json", kind)


@pytest.mark.parametrize("stage", FACTS)
def test_facts_come_back_as_they_were(stage: str, tmp_path: Path) -> None:
    """Tuples, nested models, nulls and numbers of every stage survive both formats."""
    facts = FACTS[stage]
    written = header(Ok(facts=facts), type(facts), backend="cuda", S=4096)
    for found in there_and_back(tmp_path, written, type(facts)):
        assert found == written
        assert isinstance(found.outcome, Ok) and found.outcome.facts == facts
        assert found.outcome.reason is found.outcome.fix is None


@pytest.mark.parametrize("outcome", NOT_RUN, ids=lambda outcome: outcome.status)
def test_an_outcome_without_facts_says_why_and_what_to_do(outcome: NotRun, tmp_path: Path) -> None:
    """The status names the outcome's type, and reason and fix are never missing."""
    written = header(outcome, DecodeFacts)
    for found in there_and_back(tmp_path, written, DecodeFacts):
        assert found == written and type(found.outcome) is type(outcome)
    for key in ("reason", "fix"):
        document = json.loads(written.model_dump_json())
        del document["outcome"][key]
        with pytest.raises(
            RecordError, match=rf"^r.json: outcome.{outcome.status}.{key}: Field required, got .*rerun$"
        ):
            files.parse(Path("r.json"), json.dumps(document).encode(), Header[DecodeFacts])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"outcome": {"status": "stale", "reason": "r", "fix": "f"}}, "outcome: .*'stale'.*'ok'"),  # a reader's word
        ({"outcome": {"status": "ok", "facts": {}}}, r"outcome\.ok\.facts\.device: Field required"),
        ({"status": "ok"}, "status: Extra inputs are not permitted"),
        ({"S": "4096"}, "S: Input should be a valid integer, got '4096'"),
        ({"device": {"kind": "tpu", "name": "a", "uuid": None}}, "device.kind: Input should be 'cpu' or 'cuda'"),
    ],
)
def test_a_broken_header_is_one_line(changes: dict[str, Any], message: str) -> None:
    """The first thing that is wrong is named with its place and its value."""
    document = json.loads(header(NOT_RUN[0], DecodeFacts).model_dump_json())
    with pytest.raises(RecordError, match=f"^r.json: {message}.*; delete it and rerun$") as caught:
        files.parse(Path("r.json"), json.dumps({**document, **changes}).encode(), Header[DecodeFacts])
    assert "\n" not in str(caught.value)


OLD = {"schema_version": 1, "stage": "decode", "backend": "sdpa", "S": 4096, "device": "cuda", "status": "ok"}


@pytest.mark.parametrize(("found", "version"), [(OLD, "1"), ({**OLD, "schema_version": 3}, "3"), ({}, "None")])
def test_a_record_of_another_version_names_the_changelog(found: dict[str, Any], version: str, tmp_path: Path) -> None:
    """A record that an older version wrote is one line that says where the changes are and what to do."""
    as_json, as_parquet = tmp_path / "r.json", tmp_path / "r.parquet"
    as_json.write_text(json.dumps(found))
    table = pa.table({"S": [1]}).replace_schema_metadata({parquet.KEY: json.dumps(found)})
    pq.write_table(table, as_parquet)
    message = rf"schema version {version}, expected {SCHEMA_VERSION} \(see CHANGELOG.md\); delete it and rerun$"
    with pytest.raises(RecordError, match=f"r.json: {message}"):
        files.read_model(as_json, Header[DecodeFacts])
    with pytest.raises(RecordError, match=f"r.parquet: {message}"):
        parquet.read(as_parquet, Header[DecodeFacts])


def test_facts_of_another_stage_are_refused() -> None:
    """A check's record is no decode cell's, whatever its name."""
    written = header(Ok(facts=FACTS["check"]), type(FACTS["check"])).model_dump_json()
    with pytest.raises(RecordError, match=r"outcome\.ok\.facts"):
        files.parse(Path("r.json"), written.encode(), Header[DecodeFacts])
