"""Files on disk: a write happens whole or not at all, and JSON that cannot be used is named."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from nsa.errors import RecordError
from nsa.records import files, parquet
from nsa.records.merge import Model


class Record(Model):
    """A record of two values."""

    name: str
    sizes: tuple[int, ...] = ()


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A good record on disk."""
    path = tmp_path / "dram" / "sdpa.json"
    files.write_model(path, Record(name="é", sizes=(1, 2)))
    return path


def test_what_is_written_comes_back(record: Path) -> None:
    """A model is a JSON object that ends its last line."""
    assert files.read_model(record, Record) == Record(name="é", sizes=(1, 2))
    assert files.read_json(record) == {"name": "é", "sizes": [1, 2]}
    assert record.read_text().endswith("}\n")


def test_a_failed_write_keeps_the_old_file(record: Path) -> None:
    """An interrupted write leaves the file as it was, and nothing beside it."""
    before = record.read_bytes()
    with pytest.raises(KeyboardInterrupt), files.atomic(record) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert record.read_bytes() == before
    assert [path.name for path in record.parent.iterdir()] == [record.name]


def test_what_a_killed_writer_left_is_cleared_by_the_next(record: Path) -> None:
    """The next write of a file clears what was half-written of it, and nothing of another."""
    left = record.with_name(f".{record.name}.x7{files.TEMPORARY}")
    of_another = record.with_name(f".cuda.json.x7{files.TEMPORARY}")
    for path in (left, of_another):
        path.write_text("half")
    files.write_text(record, "{}\n")
    assert not left.exists() and of_another.exists()


def test_a_new_write_replaces_the_file(record: Path) -> None:
    """The file is UTF-8."""
    files.write_text(record, "0.9 ± 0.1 µs\n")
    assert record.read_bytes() == "0.9 ± 0.1 µs\n".encode()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_who_may_read_a_file_is_the_users_choice(umask: int, mode: int, tmp_path: Path) -> None:
    """A group that shares a folder shares its records, and a private account keeps them to itself."""
    table, before = pa.table({"S": [128]}), os.umask(umask)
    try:
        files.write_text(tmp_path / "a.json", "{}\n")
        parquet.write_table(tmp_path / "a.parquet", table, Record(name="a", sizes=()))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {mode}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the place of the results folder is one line."""
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(RecordError, match=r"cannot be written \(.+\); expected a writable folder"):
        files.write_text(tmp_path / "results" / "decode.csv", "S\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"r.json: is not JSON .* delete it and rerun$"),
        (b"\xff", r"r.json: is not JSON .* delete it and rerun$"),
        (b"[]", "r.json: .* delete it and rerun$"),
    ],
)
def test_json_that_cannot_be_used_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    """Whatever is in the place of a JSON record is one line that names the file."""
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message) as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(RecordError, match=message):
        files.read_model(path, Record)


def test_a_missing_json_says_how_to_make_it(tmp_path: Path) -> None:
    """The message names the command that makes the file."""
    for read in (files.read_json, lambda path: files.read_model(path, Record)):
        with pytest.raises(RecordError, match=r"absent.json: cannot be read .*run `snakemake .*absent.json` first$"):
            read(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"sizes": []}', "name: Field required, got {'sizes': \\[\\]}"),
        ('{"name": "a", "sizes": [1, "2"]}', "sizes.1: Input should be a valid integer, got '2'"),
        ('{"name": "a", "more": 1}', "more: Extra inputs are not permitted, got 1"),
    ],
)
def test_a_record_of_another_shape_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    """The first key that is missing, unknown or of another type is named with its value."""
    with pytest.raises(RecordError, match=f"^r.json: {message}; delete it and rerun$"):
        files.parse(Path("r.json"), content.encode(), Record)
