"""Parquet records: a table, and what holds for the whole file as JSON in its metadata; written atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nsa.errors import RecordError
from nsa.records.files import atomic

SCHEMA_VERSION = 1
KEY = b"nsa"


def write(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema, facts: Mapping[str, Any]) -> None:
    """Write one Parquet record atomically: a temporary file in the same folder, then a rename.

    Args:
        path: where to; its folder is made.
        rows: one mapping per row; a missing column is null.
        schema: the table's schema.
        facts: what holds for the whole file (status, reads, provenance), stored as JSON in the file's metadata.
    """
    columns = {name: [row.get(name) for row in rows] for name in schema.names}
    table = pa.table(columns, schema=schema) if rows else schema.empty_table()  # the former imports pandas
    write_table(path, table, facts)


def write_table(path: Path, table: pa.Table, facts: Mapping[str, Any]) -> None:
    """Write a table atomically, with its facts and the schema version in the file's metadata."""
    meta = {KEY: json.dumps({"schema_version": SCHEMA_VERSION, **facts}, sort_keys=True).encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **meta})
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def read(path: Path, schema: pa.Schema | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """Read a record and its facts.

    Raises:
        RecordError: the file is missing, is no Parquet, was written by something else, has another schema version,
            or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such record; run `snakemake {path}` first") from error
    except (pa.ArrowException, OSError) as error:
        raise RecordError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); delete it and rerun"
        ) from error
    meta = (table.schema.metadata or {}).get(KEY)
    try:
        facts = json.loads(meta) if meta else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise RecordError(
            f"{path}: not written by this project (no 'nsa' metadata); expected a record of nsa.records.files"
        )
    if facts.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema version {facts.get('schema_version')!r}, expected {SCHEMA_VERSION}; delete it and rerun"
        )
    if schema is not None:
        missing = [name for name in schema.names if name not in table.column_names]
        if missing:
            raise RecordError(f"{path}: lacks the columns {', '.join(missing)}; delete it and rerun")
    return table, facts
