"""The records that stages hand to each other: Parquet tables with a schema, a version and their provenance.

The ground floor of bench (which writes them) and report (which reads them); it knows neither torch nor the statistics.
"""

from __future__ import annotations

import glob
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nsa.errors import RecordError

SCHEMA_VERSION = 1
KEY = b"nsa"
TEMPORARY = ".tmp"  # ends the name of what is being written, or was when its writer was killed

CELL = [  # what was measured: one decode cell
    ("device", pa.string()),  # cpu or cuda
    ("device_name", pa.string()),
    ("device_uuid", pa.string()),
    ("batch", pa.int32()),
    ("dim", pa.int32()),
    ("heads", pa.int32()),
    ("groups", pa.int32()),
    ("head_dim", pa.int32()),
    ("value_dim", pa.int32()),
    ("S", pa.int32()),
    ("cmp_block", pa.int32()),
    ("cmp_stride", pa.int32()),
    ("sel_block", pa.int32()),
    ("sel_count", pa.int32()),
    ("window", pa.int32()),
    ("phi", pa.string()),
    ("dtype", pa.string()),
    ("seed", pa.int32()),
]

REPETITIONS = pa.schema(
    [
        *CELL,
        ("arm", pa.string()),  # see nsa.bench.arms
        ("emits", pa.bool_()),  # whether this step adds a compressed token
        ("backend_requested", pa.string()),
        ("backend_resolved", pa.string()),
        ("reason", pa.string()),  # why the two differ; null when they do not
        ("mode", pa.string()),  # graph or eager
        ("cache_state", pa.string()),  # cold or warm
        ("process", pa.int32()),
        ("block", pa.int32()),
        ("order", pa.int32()),  # position inside the block
        ("value_ns", pa.int64()),
        ("sm_clock_mhz", pa.int32()),
        ("temperature_c", pa.int32()),
        ("power_w", pa.float32()),
        ("throttle_bits", pa.int64()),
    ]
)

CHECK_REPETITIONS = pa.schema(
    [
        ("backend", pa.string()),  # a backend's name, or sdpa:<variant> for a packed SDPA variant
        ("rows", pa.int32()),  # N = sequences x groups
        ("heads_per_group", pa.int32()),
        ("head_dim", pa.int32()),
        ("value_dim", pa.int32()),
        ("sel_count", pa.int32()),
        ("sel_block", pa.int32()),
        ("context", pa.int32()),
        ("groups", pa.int32()),
        ("dtype", pa.string()),
        ("process", pa.int32()),
        ("order", pa.int32()),
        ("value_ns", pa.int64()),  # null on a device whose timings decide nothing
        ("seed", pa.int32()),
        ("mae", pa.float64()),  # against packed SDPA, same dtype
        ("oracle_error", pa.float64()),  # worst-row relative L2 against the float64 oracle
        ("sdpa_oracle_error", pa.float64()),  # the same of packed SDPA
        ("fault", pa.string()),  # the first correctness check that failed; null when none did
    ]
)

# A backend's name, or empty for the empty graph, which has no shape; the bytes are those of K and V.
ROOFLINE = CHECK_REPETITIONS.append(pa.field("selected_bytes", pa.int64()))


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
        raise RecordError(f"{path}: not written by this project (no 'nsa' metadata); expected a record of nsa.records")
    if facts.get("schema_version") != SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema version {facts.get('schema_version')!r}, expected {SCHEMA_VERSION}; delete it and rerun"
        )
    if schema is not None:
        missing = [name for name in schema.names if name not in table.column_names]
        if missing:
            raise RecordError(f"{path}: lacks the columns {', '.join(missing)}; delete it and rerun")
    return table, facts


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target, renamed onto it only when nothing failed.

    A target has one writer at a time, so what a killed one has left of it is cleared away.

    Raises:
        RecordError: the target cannot be written: a read-only folder, a full disk.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
            left.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # Arrow's own text is longer
        raise RecordError(f"{path}: cannot be written ({why}); expected a writable folder with space left") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON record.

    Raises:
        RecordError: it is missing, no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); run `snakemake {path}` first") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not JSON ({error}); delete it and rerun") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: got a JSON {type(content).__name__}, expected an object; delete it and rerun")
    return content
