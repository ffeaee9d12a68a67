"""Parquet records: what is written comes back, and a file that is broken, foreign or of other columns is named."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsa.errors import RecordError
from nsa.records import parquet, schemas
from nsa.records.merge import Model

SCHEMA = pa.schema([("S", pa.int32()), ("value_ns", pa.int64()), ("reason", pa.string())])
ROWS: list[dict[str, Any]] = [
    {"S": 128, "value_ns": 1_234_567, "reason": None},
    {"S": 256, "value_ns": None, "reason": "out of memory"},
]


class About(Model):
    """What the record says of itself."""

    status: str
    commit: str | None = None


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A good record on disk."""
    path = tmp_path / "decode" / "sdpa" / "S128.parquet"
    parquet.write(path, ROWS, SCHEMA, About(status="ok"))
    return path


def test_what_is_written_comes_back(record: Path) -> None:
    """Values, nulls, column types and the header are those that were written."""
    table, about = parquet.read(record, About, SCHEMA)
    assert table.to_pylist() == ROWS
    assert table.schema.remove_metadata().equals(SCHEMA)
    assert about == About(status="ok")


def test_a_table_keeps_its_header_beside_other_metadata(tmp_path: Path) -> None:
    """A table that brings metadata of its own has a header all the same."""
    table = pa.table({"S": [1]}).replace_schema_metadata({b"theirs": b"1"})
    parquet.write_table(tmp_path / "r.parquet", table, About(status="ok"))
    found, about = parquet.read(tmp_path / "r.parquet", About)
    assert about.status == "ok" and found.schema.metadata[b"theirs"] == b"1"


def test_a_column_that_a_row_lacks_is_null(tmp_path: Path) -> None:
    """A row without a time fits the table."""
    parquet.write(tmp_path / "r.parquet", [{"S": 128}], SCHEMA, About(status="ok"))
    table = parquet.read_table(tmp_path / "r.parquet")
    assert table.to_pylist() == [{"S": 128, "value_ns": None, "reason": None}]


@pytest.mark.parametrize("schema", [schemas.REPETITIONS, schemas.CHECK_REPETITIONS, schemas.ROOFLINE])
def test_a_record_without_rows_has_its_columns(schema: pa.Schema, tmp_path: Path) -> None:
    """A cell that measured nothing has its columns and its header."""
    parquet.write(tmp_path / "r.parquet", [], schema, About(status="unavailable"))
    table, about = parquet.read(tmp_path / "r.parquet", About, schema)
    assert table.num_rows == 0 and table.schema.remove_metadata().equals(schema)
    assert about.status == "unavailable"


def test_a_full_disk_is_one_line_and_keeps_the_old_file(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up while Arrow writes costs neither the old record nor a traceback."""
    before = record.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    expected = (
        r"S128\.parquet: cannot be written \(No space left on device\); expected a writable folder with space left$"
    )
    with pytest.raises(RecordError, match=expected):
        parquet.write(record, ROWS, SCHEMA, About(status="ok"))
    assert record.read_bytes() == before
    assert [path.name for path in record.parent.iterdir()] == [record.name]


def test_a_missing_record_says_how_to_make_it(tmp_path: Path) -> None:
    """The message names the command that makes the file."""
    path = tmp_path / "decode_sdpa.parquet"
    with pytest.raises(RecordError, match=f"no such record; run `snakemake {path}` first"):
        parquet.read(path, About)


@pytest.mark.parametrize("keep", [0, 7, 0.5])
def test_broken_bytes_are_named(record: Path, keep: float) -> None:
    """A file that was cut short is one line that says what to do."""
    whole = record.read_bytes()
    record.write_bytes(whole[: int(keep if keep >= 1 else keep * len(whole))])
    with pytest.raises(
        RecordError, match=r"S128\.parquet: not a readable Parquet file .* delete it and rerun"
    ) as error:
        parquet.read(record, About)
    assert str(error.value).count(record.name) == 1


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "not written by this project"),
        ({b"nsa": b"theirs"}, "is not JSON"),
        ({b"nsa": b"[1]"}, "should be an object, got \\[1\\]"),
        ({b"nsa": b'{"status": "ok", "theirs": 1}'}, "theirs: Extra inputs are not permitted"),
    ],
)
def test_a_foreign_parquet_is_refused(tmp_path: Path, metadata: dict[bytes, bytes], message: str) -> None:
    """Somebody else's table decides nothing, even where its columns fit."""
    path = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"S": [128]}).replace_schema_metadata(metadata), path)
    with pytest.raises(RecordError, match=message) as caught:
        parquet.read(path, About)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_no_other_number(tmp_path: Path) -> None:
    """Every bit of the data that changes on a disk makes the file unreadable: no time is another one by it."""
    path, times = tmp_path / "r.parquet", [1_000_003 + 7 * place for place in range(64)]
    parquet.write(path, [{"S": 1, "value_ns": time} for time in times], SCHEMA, About(status="ok"))
    whole, (chunk,) = path.read_bytes(), (pq.read_metadata(path).row_group(0).column(1),)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    changed = 0
    for place in range(start, start + chunk.total_compressed_size, 5):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            found = parquet.read_table(path)["value_ns"].to_pylist()
        except RecordError:
            changed += 1
        else:
            assert found == times  # a bit of a page's header that says nothing of the numbers
    assert changed > 20


def test_a_column_of_another_type_is_named(record: Path) -> None:
    """A table whose numbers are text, or of another width, is none of ours."""
    table = parquet.read_table(record)
    place = SCHEMA.get_field_index("value_ns")
    pq.write_table(table.set_column(place, "value_ns", table["value_ns"].cast(pa.string())), record)
    with pytest.raises(RecordError, match=r"value_ns holds string, expected int64; delete it and rerun"):
        parquet.read(record, About, SCHEMA)


def test_a_missing_column_is_named(record: Path) -> None:
    """A reader's columns are all there, or the message names those that are not."""
    wanted = pa.schema([*SCHEMA, ("order", pa.int32()), ("block", pa.int32())])
    with pytest.raises(RecordError, match="lacks the columns order, block"):
        parquet.read(record, About, wanted)
