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
    """A value, a null or a fact that changes on its way to disk would change the verdict."""
    table, facts = parquet.read(record, SCHEMA)
    assert table.to_pylist() == ROWS
    assert table.schema.equals(SCHEMA)
    assert facts == {
        "status": "ok",
        "provenance": {"git_commit": None},
        "schema_version": parquet.SCHEMA_VERSION,
    }


def test_a_column_that_a_row_lacks_is_null(tmp_path: Path) -> None:
    """An unavailable cell has no timings; its row must still fit the table."""
    path = tmp_path / "r.parquet"
    parquet.write(path, [{"S": 128}], SCHEMA, {})
    assert parquet.read(path, SCHEMA)[0].to_pylist() == [{"S": 128, "value_ns": None, "reason": None}]


def test_the_real_schemas_survive_a_file_without_rows(tmp_path: Path) -> None:
    """A cell with nothing to measure writes no rows; its columns and status must still be readable."""
    for schema in (schemas.REPETITIONS, schemas.CHECK_REPETITIONS):
        parquet.write(tmp_path / "r.parquet", [], schema, {"status": "unavailable"})
        table, facts = parquet.read(tmp_path / "r.parquet", schema)
        assert table.num_rows == 0
        assert table.schema.equals(schema)
        assert facts["status"] == "unavailable"


def test_a_failed_write_keeps_the_old_file(record: Path) -> None:
    """An interrupted rerun must not cost the last good record, nor leave a half-written one or litter behind."""
    before = record.read_bytes()
    with pytest.raises(KeyboardInterrupt), files.atomic(record) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert record.read_bytes() == before
    assert [path.name for path in record.parent.iterdir()] == [record.name]


def test_what_a_killed_writer_left_is_cleared_by_the_next(record: Path) -> None:
    """Without it, every kill would leave one more half-written file behind, for ever."""
    left = record.with_name(f".{record.name}.x7{files.TEMPORARY}")
    of_another = record.with_name(f".S256.parquet.x7{files.TEMPORARY}")
    for path in (left, of_another):
        path.write_text("half")
    parquet.write(record, ROWS, SCHEMA, {})
    assert not left.exists() and of_another.exists()


def test_a_full_disk_is_one_line_and_keeps_the_old_file(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a disk that fills up while Arrow writes would end in a traceback."""
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
    """A rerun's record must not be the old one, and others must be able to read it."""
    files.write_text(record, "0.9 ± 0.1 µs\n")
    assert record.read_bytes() == "0.9 ± 0.1 µs\n".encode()
    assert record.stat().st_mode & 0o777 == 0o644


def test_a_missing_record_says_how_to_make_it(tmp_path: Path) -> None:
    """The commonest error of a first run must name the command that fixes it."""
    path = tmp_path / "decode_sdpa.parquet"
    with pytest.raises(RecordError, match=f"no such record; run `snakemake {path}` first"):
        parquet.read(path)


@pytest.mark.parametrize("keep", [0, 7, 0.5])
def test_broken_bytes_are_named(record: Path, keep: float) -> None:
    """A file cut short by a full disk must be an error that says what to do, not an Arrow traceback."""
    whole = record.read_bytes()
    record.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(RecordError, match=r"S128\.parquet: not a readable Parquet file .* delete it and rerun"):
        parquet.read(record)


@pytest.mark.parametrize("metadata", [{}, {b"nsa": b"theirs"}, {b"nsa": b"[1]"}])
def test_a_foreign_parquet_is_refused(tmp_path: Path, metadata: dict[bytes, bytes]) -> None:
    """Somebody else's table with fitting columns must not decide a gate."""
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"S": [128]}).replace_schema_metadata(metadata), path)
    with pytest.raises(RecordError, match="not written by this project"):
        parquet.read(path)


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    """Columns of an older version may mean something else under the same name."""
    path = tmp_path / "old.parquet"
    facts = json.dumps({"schema_version": parquet.SCHEMA_VERSION - 1}).encode()
    pq.write_table(pa.table({"S": [128]}).replace_schema_metadata({parquet.KEY: facts}), path)
    with pytest.raises(RecordError, match=r"schema version 0, expected 1; delete it and rerun"):
        parquet.read(path)


def test_a_missing_column_is_named(record: Path) -> None:
    """A reader that assumes a column would otherwise fail far away with a KeyError."""
    wanted = pa.schema([*SCHEMA, ("order", pa.int32()), ("block", pa.int32())])
    with pytest.raises(RecordError, match="lacks the columns order, block"):
        parquet.read(record, wanted)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the place of the results folder must be one clear line, not an OSError."""
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(RecordError, match=r"cannot be written \(.+\); expected a writable folder"):
        files.write_text(tmp_path / "results" / "decode.csv", "S\n")


def test_input_records_are_refused_by_name(tmp_path: Path) -> None:
    """Breaks if a broken environment record ends in a traceback."""
    with pytest.raises(RecordError, match=r"absent.json: cannot be read .*snakemake"):
        files.read_json(tmp_path / "absent.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RecordError, match=r"broken.json: is not JSON .* delete it and rerun"):
        files.read_json(tmp_path / "broken.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(RecordError, match="got a JSON list, expected an object"):
        files.read_json(tmp_path / "list.json")
