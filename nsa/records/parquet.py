"""Parquet records: a table, and the header that says what it is as JSON in its metadata; written atomically."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from nsa.errors import RecordError
from nsa.records import files
from nsa.records.merge import Model
from nsa.records.words import Row

KEY = b"nsa"
H = TypeVar("H", bound=Model)


def write(path: Path, rows: Sequence[Row], schema: pa.Schema, header: Model) -> None:
    """Write one Parquet record atomically: a temporary file in the same folder, then a rename.

    Args:
        path: where to; its folder is made.
        rows: one mapping per row.
        schema: the table's schema.
        header: what holds for the whole file, see nsa.records.outcome.
    """
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    # without rows, pandas is not imported: pa.table and empty_table do that
    table = pa.table(columns, schema=schema) if rows else pa.Table.from_batches([], schema=schema)
    write_table(path, table, header)


def write_table(path: Path, table: pa.Table, header: Model) -> None:
    """Write a table atomically, with its header in the file's metadata."""
    meta = {KEY: header.model_dump_json().encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **meta})
    with files.atomic(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read(path: Path, header: type[H], schema: pa.Schema | None = None) -> tuple[pa.Table, H]:
    """Read a record and its header.

    Args:
        path: the file.
        header: the model that its header must be of.
        schema: the columns that it must have, by name and type.

    Raises:
        RecordError: the file is missing, is no Parquet, was written by something else or by an older version of this
            project, its header is broken, or a column is not there or of another type.
    """
    table = read_table(path)
    meta = (table.schema.metadata or {}).get(KEY)
    if meta is None:
        raise RecordError(f"{path}: not written by this project (no 'nsa' metadata); expected a record of nsa.records")
    found = files.parse(path, meta, header)
    missing = [name for name in schema.names if name not in table.column_names] if schema is not None else []
    if missing:
        raise RecordError(f"{path}: lacks the columns {', '.join(missing)}; delete it and rerun")
    for column in schema or ():
        if (kind := table.schema.field(column.name).type) != column.type:
            raise RecordError(f"{path}: {column.name} holds {kind}, expected {column.type}; delete it and rerun")
    return table, found


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file, whoever wrote it.

    Raises:
        RecordError: it is missing, no Parquet, or one whose data is not what its checksums say.
    """
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such record; run `snakemake {path}` first") from error
    except (pa.ArrowException, OSError) as error:
        why = str(error).splitlines()[0].removeprefix(f"Could not open Parquet input source '{path}': ")
        raise RecordError(f"{path}: not a readable Parquet file ({why}); delete it and rerun") from error
