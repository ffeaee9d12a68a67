"""Records on disk: what is written comes back, a failed write leaves the old file, and a bad file is named."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsa.errors import RecordError
from nsa.records import files, parquet, schemas

SCHEMA = pa.schema([("S", pa.int32()), ("value_ns", pa.int64()), ("reason", pa.string())])
ROWS: list[dict[str, Any]] = [
    {"S": 128, "value_ns": 1_234_567, "reason": None},
    {"S": 256, "value_ns": None, "reason": "out of memory"},
]


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A good record on disk."""
    path = tmp_path / "decode" / "sdpa" / "S128.parquet"
    parquet.write(path, ROWS, SCHEMA, {"status": "ok", "provenance": {"git_commit": None}})
    return path


def test_roundtrip(record: Path) -> None:
    """Values, nulls and facts come back from disk as they were."""
    table, facts = parquet.read(record, SCHEMA)
    assert table.to_pylist() == ROWS
    assert table.schema.equals(SCHEMA)
    assert facts == {
        "status": "ok",
        "provenance": {"git_commit": None},
        "schema_version": parquet.SCHEMA_VERSION,
    }


def test_a_column_that_a_row_lacks_is_null(tmp_path: Path) -> None:
    """A column that a row lacks is null."""
    path = tmp_path / "r.parquet"
    parquet.write(path, [{"S": 128}], SCHEMA, {})
    assert parquet.read(path, SCHEMA)[0].to_pylist() == [{"S": 128, "value_ns": None, "reason": None}]


def test_the_real_schemas_survive_a_file_without_rows(tmp_path: Path) -> None:
    """A file without rows keeps its columns and its status."""
    for schema in (schemas.REPETITIONS, schemas.CHECK_REPETITIONS):
        parquet.write(tmp_path / "r.parquet", [], schema, {"status": "unavailable"})
        table, facts = parquet.read(tmp_path / "r.parquet", schema)
        assert table.num_rows == 0
        assert table.schema.equals(schema)
        assert facts["status"] == "unavailable"


def test_a_failed_write_keeps_the_old_file(record: Path) -> None:
    """A write that fails leaves the old file and nothing beside it."""
    before = record.read_bytes()
    with pytest.raises(KeyboardInterrupt), files.atomic(record) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert record.read_bytes() == before
    assert [path.name for path in record.parent.iterdir()] == [record.name]


def test_what_a_killed_writer_left_is_cleared_by_the_next(record: Path) -> None:
    """What a killed writer left half-written is cleared by the next write."""
    left = record.with_name(f".{record.name}.x7{files.TEMPORARY}")
    of_another = record.with_name(f".S256.parquet.x7{files.TEMPORARY}")
    for path in (left, of_another):
        path.write_text("half")
    parquet.write(record, ROWS, SCHEMA, {})
    assert not left.exists() and of_another.exists()


def test_a_full_disk_is_one_line_and_keeps_the_old_file(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is one line, and the old file is still there."""
    before = record.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    expected = (
        r"S128\.parquet: cannot be written \(No space left on device\); expected a writable folder with space left$"
    )
    with pytest.raises(RecordError, match=expected):
        parquet.write(record, ROWS, SCHEMA, {})
    assert record.read_bytes() == before
    assert [path.name for path in record.parent.iterdir()] == [record.name]


def test_a_new_write_replaces_the_file(record: Path) -> None:
    """A new write replaces the file, which others may read."""
    files.write_text(record, "0.9 ± 0.1 µs\n")
    assert record.read_bytes() == "0.9 ± 0.1 µs\n".encode()
    assert record.stat().st_mode & 0o777 == 0o644


def test_a_missing_record_says_how_to_make_it(tmp_path: Path) -> None:
    """A missing record is an error with the command that makes it."""
    path = tmp_path / "decode_sdpa.parquet"
    with pytest.raises(RecordError, match=f"no such record; run `snakemake {path}` first"):
        parquet.read(path)


@pytest.mark.parametrize("keep", [0, 7, 0.5])
def test_broken_bytes_are_named(record: Path, keep: float) -> None:
    """A file cut short by a full disk is an error that says what to do."""
    whole = record.read_bytes()
    record.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(RecordError, match=r"S128\.parquet: not a readable Parquet file .* delete it and rerun"):
        parquet.read(record)


@pytest.mark.parametrize("metadata", [{}, {b"nsa": b"theirs"}, {b"nsa": b"[1]"}])
def test_a_foreign_parquet_is_refused(tmp_path: Path, metadata: dict[bytes, bytes]) -> None:
    """A table of somebody else's is refused, even with fitting columns."""
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"S": [128]}).replace_schema_metadata(metadata), path)
    with pytest.raises(RecordError, match="not written by this project"):
        parquet.read(path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    """A record of another schema version is refused: its columns may mean something else."""
    path = tmp_path / "old.parquet"
    facts = json.dumps({"schema_version": parquet.SCHEMA_VERSION - 1}).encode()
    pq.write_table(pa.table({"S": [128]}).replace_schema_metadata({parquet.KEY: facts}), path)
    with pytest.raises(RecordError, match=r"schema version 0, expected 1; delete it and rerun"):
        parquet.read(path)


def test_a_missing_column_is_named(record: Path) -> None:
    """A record that lacks a column is refused, and the column is named."""
    wanted = pa.schema([*SCHEMA, ("order", pa.int32()), ("block", pa.int32())])
    with pytest.raises(RecordError, match="lacks the columns order, block"):
        parquet.read(record, wanted)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the place of the results folder is one line."""
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(RecordError, match=r"cannot be written \(.+\); expected a writable folder"):
        files.write_text(tmp_path / "results" / "decode.csv", "S\n")


def test_input_records_are_refused_by_name(tmp_path: Path) -> None:
    """A broken environment record is one line that names it."""
    with pytest.raises(RecordError, match=r"absent.json: cannot be read .*snakemake"):
        files.read_json(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RecordError, match=r"broken.json: is not JSON .* delete it and rerun"):
        files.read_json(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(RecordError, match="got a JSON list, expected an object"):
        files.read_json(tmp_path / "list.json")
