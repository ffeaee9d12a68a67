"""The accepted run: per-process medians of its records, one small Parquet for each GPU model, kept in git."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pydantic import JsonValue

from nsa.config import Config
from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.records import parquet
from nsa.records.facts import SCHEMA_VERSION, CheckFacts, TimedFacts
from nsa.records.made import AcceptedHeader, Identity
from nsa.records.shapes import AXES
from nsa.records.words import CONTROLS
from nsa.report.analysis.read import Cell, Record, primary_rows
from nsa.report.analysis.rows import to_frame
from nsa.report.analysis.stats import NS_PER_MS, process_times
from nsa.report.verdict.gates import outcome_words
from nsa.report.verdict.run import Run
from nsa.settings import leaves

DECODE, CHECK = "decode", "check"
REPLICATION = ("iters", "warmup", "processes", "seed", "seeds", "timeout_s")  # how often it is timed, not what
ONLY_CPU = ("cpu_threads", "cpu_rows", "cpu_context")
SOFTWARE = ("driver", "torch", "cuda_version", "triton", "nvcc", "python")  # of a record's environment
MEDIANS = pa.schema(
    [
        ("kind", pa.string()),  # decode or check
        ("backend", pa.string()),
        ("S", pa.int32()),  # of a decode cell; null in a check
        *((axis, pa.int32()) for axis in AXES),  # of a check's shape; null in a decode cell
        (
            "arm",
            pa.string(),
        ),  # of a decode cell, see nsa.records.words.ARMS, or one of CONTROLS; null of a check's kernel
        ("process", pa.int32()),
        ("time_ms", pa.float64()),  # the process's median, emitting and other steps weighted
    ]
)
AGAIN = "accept a run again"
Timed = Mapping[str, Mapping[str, JsonValue]]  # of decode and of check, the settings that say what was timed


@dataclass(frozen=True)
class AcceptedRun:
    """An accepted run of one GPU model, with its rows of MEDIANS."""

    path: Path
    header: AcceptedHeader
    times: pd.DataFrame


def file_of(folder: Path, model: str, device: str) -> Path:
    """Where the accepted run of a device model lies, such as accepted/nvidia-h200.parquet."""
    return folder / f"{'cpu-' if device == 'cpu' else ''}{slug(model)}.parquet"


def slug(model: str) -> str:
    """A device model in the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")


def keep(run: Run, config: Config, folder: Path, *, cpu: bool) -> str:
    """Keep a run as the accepted one of its GPU model; returns a line that says what was kept and what was left out.

    What is kept are figures, not a verdict: a kernel that is too slow to ship is kept, one that is wrong is not.

    Args:
        config: the run's configuration.
        cpu: whether a run without a GPU may be kept, as a model of its own.

    Raises:
        RecordError: a record is stale or broken, a blocking check fired, results are wrong, a cell has one process
            only, nothing was measured, or it was measured on a CPU and that was not asked for.
    """
    refuse_unsound(run)
    found, measured, device = list(run.records.values()), run.measured, run.device
    if device is None:
        reason = found[0].reason if found else "there are no records"
        raise RecordError(f"accept: nothing was measured ({reason}); run the pipeline where a backend runs")
    if device.kind == "cpu" and not cpu:
        raise RecordError(
            f"accept: the run was measured on a CPU ({device.name}), whose times decide nothing; expected a CUDA "
            "device, or --cpu to keep it as a model of its own"
        )
    about = measured[0].provenance
    header = AcceptedHeader(
        model=device.name,
        device=device.kind,
        accepted_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        git_commit=about.git_commit if about else None,
        git_dirty=about.git_dirty if about else None,
        software=software(run),
        timed={kind: dict(settings) for kind, settings in what_is_timed(run, config).items()},
        records={record.name: identity for record in measured if (identity := identity_of(record)) is not None},
    )
    path = file_of(folder, device.name, device.kind)
    table = pa.Table.from_pandas(process_medians(run), schema=MEDIANS, preserve_index=False)
    parquet.write_table(path, table, header)
    left_out = dict.fromkeys(f"{record.backend} ({record.status})" for record in found if not record.ok)
    said = f"accepted: {path}: {len(measured)} records of {device.name}"
    return said + (f"; left out: {', '.join(left_out)}" if left_out else "")


def refuse_unsound(run: Run) -> None:
    """Raise a RecordError for the first thing that makes a run's figures no measure for later ones."""
    fix = f"run `snakemake` and look at {Layout().report}"
    for record in run.records.values():
        if record.status in ("stale", "invalid"):
            raise RecordError(f"accept: {record.name} is {outcome_words(record)}, expected a record of today; {fix}")
    for check in run.checks:
        if check.blocks:
            raise RecordError(f"accept: {check.name} blocks {check.cell} ({check.message}); fix that first, {fix}")
    for each in run.cells:
        if each.figures is not None and each.figures.processes < 2:
            raise RecordError(
                f"accept: {each.backend} at S = {each.S} has 1 process, expected at least 2 for an interval; "
                "set decode.processes (10 for a decision) and run `snakemake`"
            )
    for accepted in run.accepts:
        if accepted.wrong_shapes:
            raise RecordError(f"accept: {accepted.backend} gives wrong results at {accepted.wrong_shapes[0]}; {fix}")


def read_accepted(path: Path) -> AcceptedRun:
    """Read an accepted run.

    Raises:
        RecordError: the file is missing, broken, no accepted run, or one of an older version of this project.
    """
    fix = f"restore it from git, or {AGAIN}"
    try:
        table, header = parquet.read(path, AcceptedHeader, MEDIANS)
    except RecordError as error:
        if older := _other_version(path):
            raise RecordError(f"{path}: was accepted by another version of this project ({older}); {AGAIN}") from error
        raise RecordError(f"{str(error).rpartition(';')[0]}; {fix}") from error
    times = to_frame(table)
    if not (times["time_ms"] > 0).all() or not times["time_ms"].map(math.isfinite).all():
        raise RecordError(f"{path}: a time_ms is not a positive number; {fix}")
    return AcceptedRun(path, header, times)


def _other_version(path: Path) -> str | None:
    """How an accepted run of another schema differs; None of any other file."""
    try:
        found: JsonValue = json.loads((parquet.read_table(path).schema.metadata or {}).get(parquet.KEY, b"null"))
    except (RecordError, ValueError):
        return None
    version = found.get("schema_version") if isinstance(found, dict) else None
    if version is None or version == SCHEMA_VERSION:
        return None
    return f"schema {version}, expected {SCHEMA_VERSION}"


def process_medians(run: Run) -> pd.DataFrame:
    """Rows of MEDIANS from the records that ran: every arm of each cell, and the checked kernel on every shape."""
    parts = [decode_medians(each.cell) for each in run.cells if each.cell.ok]
    parts += [check_medians(record) for record in run.kernel.values() if record.ok and record.on_cuda]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    frame = frame.reindex(columns=MEDIANS.names)
    whole = [name for name in MEDIANS.names if pa.types.is_int32(MEDIANS.field(name).type)]
    return frame.astype(dict.fromkeys(whole, "Int32"))


def decode_medians(cell: Cell) -> pd.DataFrame:
    """T_p(arm) of one cell in its primary mode."""
    times = process_times(primary_rows(cell), cell.facts.emit_weight)
    long = times.rename_axis(columns="arm").reset_index().melt("process", value_name="time_ms")
    return long.dropna().assign(kind=DECODE, backend=cell.backend, S=cell.S)


def check_medians(record: Record[CheckFacts]) -> pd.DataFrame:
    """The medians of the checked kernel and the control in each process, on every shape; packed SDPA's are not kept."""
    kept = record.rows["backend"].isin((record.backend, *CONTROLS)) & record.rows["value_ns"].notna()
    rows = record.rows[kept].rename(columns={"backend": "arm"})
    medians = rows.groupby([*AXES, "process", "arm"])["value_ns"].median() / NS_PER_MS
    found = medians.rename("time_ms").reset_index()
    found["arm"] = found["arm"].where(found["arm"].isin(CONTROLS), None)
    return found.assign(kind=CHECK, backend=record.backend)


def what_is_timed(run: Run, config: Config) -> Timed:
    """What the times of decode and of check depend on; the grid's sizes are its shapes' own."""
    device = run.device.kind if run.device else "cpu"
    ignored = (*REPLICATION, *AXES, *(() if device == "cpu" else ONLY_CPU))
    decode: dict[str, JsonValue] = config.decode.model_dump(mode="json")
    check: dict[str, JsonValue] = config.check.model_dump(mode="json")
    parts = ", ".join(sorted({each.cell.facts.parts for each in run.cells if each.cell.ok}))
    decode |= {
        "dtype": config.decode.dtype.of(device),
        "parts": parts,
        "flush": flush([each.cell for each in run.cells]),
    }
    check |= {"dtype": config.check.dtype.of(device), "flush": flush(list(run.kernel.values()))}
    return {
        kind: {key: value for key, value in leaves(section) if key not in ignored}
        for kind, section in ((DECODE, decode), (CHECK, check))
    }


def setting_differs(kind: str, before: Mapping[str, JsonValue], now: Mapping[str, JsonValue]) -> str | None:
    """Why two sets of settings that say what was timed differ, the first key named; None where they do not."""
    differ = [key for key in dict.fromkeys((*before, *now)) if before.get(key) != now.get(key)]
    if not differ:
        return None
    more = f" and {len(differ) - 1} more" if len(differ) > 1 else ""
    return f"other config: {kind}.{differ[0]} was {before.get(differ[0])}, is {now.get(differ[0])}{more}"


def flush(records: Sequence[Record[TimedFacts]]) -> str | None:
    """How the L2 was emptied before what these records timed; None where nothing ran."""
    return ", ".join(sorted({record.facts.flush for record in records if record.ok})) or None


def software(run: Run) -> dict[str, str]:
    """The versions that the run's records name, each once."""
    seen = [record.provenance.environment for record in run.measured if record.provenance]
    return {key: ", ".join(sorted({str(getattr(environment, key)) for environment in seen})) for key in SOFTWARE}


def identity_of(record: Record[TimedFacts]) -> Identity | None:
    """When a record was measured and of what; None of one that cannot be read."""
    if record.provenance is None or record.stamp is None:
        return None
    about = record.provenance
    return Identity(utc_time=about.utc_time, git_commit=about.git_commit, stamp=record.stamp)
