"""The accepted run: per-process medians of its records, one small Parquet for each GPU model, kept in git."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from nsa.errors import RecordError
from nsa.records import parquet
from nsa.report.analysis.kernel import AXES
from nsa.report.analysis.read import Cell, Record, Stamps, primary, timed
from nsa.report.analysis.stats import NS_PER_MS, process_times
from nsa.report.verdict.checks import BLOCKING
from nsa.report.verdict.gates import status_words
from nsa.report.verdict.run import Run, device_name

DECODE, CHECK = "decode", "check"
REPLICATION = ("iters", "warmup", "processes", "seed", "seeds", "timeout_s")  # how often it is timed, not what
ONLY_CPU = ("cpu_threads", "cpu_rows", "cpu_context")
SOFTWARE = ("driver", "torch", "cuda_version", "triton", "nvcc", "python")  # of a record's environment
BASELINE = pa.schema(
    [
        ("kind", pa.string()),  # decode or check
        ("backend", pa.string()),
        ("S", pa.int32()),  # of a decode cell; null in a check
        *((axis, pa.int32()) for axis in AXES),  # of a check's shape; null in a decode cell
        ("arm", pa.string()),  # of a decode cell, see nsa.bench.decode.arms; null in a check
        ("process", pa.int32()),
        ("time_ms", pa.float64()),  # the process's median, emitting and other steps weighted
    ]
)


@dataclass(frozen=True)
class AcceptedRun:
    """An accepted run of one GPU model.

    Attributes:
        facts: model, device, timed (the settings that say what was timed), software, records, git_commit, accepted_utc.
        times: rows of BASELINE.
    """

    path: Path
    facts: Mapping[str, Any]
    times: pd.DataFrame


def file_of(folder: Path, model: str, device: str) -> Path:
    """Where the baseline of a device model lies, such as accepted/nvidia-h200.parquet."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return folder / f"{'cpu-' if device == 'cpu' else ''}{slug}.parquet"


def keep(run: Run, stamps: Stamps, config: Mapping[str, Any], folder: Path, *, cpu: bool) -> str:
    """Keep a run as the baseline of its GPU model; returns one line that says what was kept and what was left out.

    What is kept are figures, not a verdict: a kernel that is too slow to ship is kept, one that is wrong is not.

    Args:
        stamps: today's digests by stage, with which the run was read.
        config: the run's configuration, validated.
        cpu: whether a run without a GPU may be kept, as a model of its own.

    Raises:
        RecordError: a record is stale or broken, a blocking check fired, results are wrong, a cell has one process
            only, nothing was measured, or it was measured on a CPU and that was not asked for.
    """
    found, measured = list(run.records.values()), run.measured
    refuse_unsound(run, found)
    if not measured:
        reason = found[0].reason if found else "there are no records"
        raise RecordError(f"accept: nothing was measured ({reason}); run the pipeline where a backend runs")
    device, model = str(measured[0].device), str(device_name(measured[0]))
    if device == "cpu" and not cpu:
        raise RecordError(
            f"accept: the run was measured on a CPU ({model}), whose times decide nothing; expected a CUDA device, "
            "or --cpu to keep it as a model of its own"
        )
    times = process_medians(run.cells, run.kernel.values())
    about = measured[0].facts.get("provenance") or {}
    facts = {
        "stage": "baseline",
        "model": model,
        "device": device,
        "accepted_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": about.get("git_commit"),
        "git_dirty": about.get("git_dirty"),
        "software": software(run),
        "timed": what_is_timed(config, device),
        "settings": {stage: digests["settings"] for stage, digests in stamps.items()},
        "records": {record.name: identity(record) for record in measured},
    }
    path = file_of(folder, model, device)
    table = pa.Table.from_pandas(times, schema=BASELINE, preserve_index=False)
    parquet.write_table(path, table, facts)
    left_out = dict.fromkeys(f"{record.backend} ({record.status})" for record in found if record.status != "ok")
    said = f"accepted: {path}: {len(measured)} records of {model}"
    return said + (f"; left out: {', '.join(left_out)}" if left_out else "")


def refuse_unsound(run: Run, found: Sequence[Record]) -> None:
    """Raise a RecordError for the first thing that makes a run's figures no measure for later ones."""
    fix = "run `snakemake` and look at results/gate_report.md"
    for record in found:
        if record.status in ("stale", "invalid"):
            raise RecordError(
                f"accept: {record.name} is {status_words(vars(record))}, expected a record of today; {fix}"
            )
    for check in run.checks:
        if check.fired and check.severity == BLOCKING:
            raise RecordError(f"accept: {check.name} blocks {check.cell} ({check.message}); fix that first, {fix}")
    for row in run.rows:
        if row["status"] == "ok" and row["processes"] < 2:
            raise RecordError(
                f"accept: {row['backend']} at S = {row['S']} has 1 process, expected at least 2 for an interval; "
                "set decode.processes (10 for a decision) and run `snakemake`"
            )
    for accepted in run.accepts:
        if wrong := [str(shape.figures.shape) for shape in accepted.shapes if shape.correct is False]:
            raise RecordError(f"accept: {accepted.backend} gives wrong results at {wrong[0]}; {fix}")


def read_accepted(path: Path) -> AcceptedRun:
    """Read an accepted run.

    Raises:
        RecordError: the file is missing, broken, or no baseline.
    """
    fix = "restore it from git, or accept a run again"
    try:
        table, facts = parquet.read(path, BASELINE)
    except RecordError as error:
        raise RecordError(f"{str(error).rpartition(';')[0]}; {fix}") from error
    missing = [key for key in ("model", "device", "timed", "software", "records") if facts.get(key) is None]
    if facts.get("stage") != "baseline" or missing:
        raise RecordError(f"{path}: is no accepted run (it lacks {', '.join(missing) or 'its stage'}); {fix}")
    times = table.to_pandas()
    if not (times["time_ms"] > 0).all() or not times["time_ms"].map(math.isfinite).all():
        raise RecordError(f"{path}: a time_ms is not a positive number; {fix}")
    return AcceptedRun(path, facts, times)


def process_medians(cells: Sequence[Cell], kernel: Iterable[Record]) -> pd.DataFrame:
    """Rows of BASELINE from the records that ran: every arm of each cell, and the checked kernel on every shape."""
    parts = [decode_medians(cell) for cell in cells if cell.status == "ok"]
    parts += [check_medians(record) for record in kernel if record.status == "ok" and record.device == "cuda"]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    frame = frame.reindex(columns=BASELINE.names)
    whole = [name for name in BASELINE.names if pa.types.is_int32(BASELINE.field(name).type)]
    return frame.astype(dict.fromkeys(whole, "Int32"))


def decode_medians(cell: Cell) -> pd.DataFrame:
    """T_p(arm) of one cell in its primary mode."""
    times = process_times(timed(cell.rows, *primary(cell.device)), cell.facts["emit_weight"])
    long = times.rename_axis(columns="arm").reset_index().melt("process", value_name="time_ms")
    return long.dropna().assign(kind=DECODE, backend=cell.backend, S=cell.S)


def check_medians(record: Record) -> pd.DataFrame:
    """The checked kernel's median in each process, on every shape; its rivals' are not kept."""
    rows = record.rows[(record.rows["backend"] == record.backend) & record.rows["value_ns"].notna()]
    medians = rows.groupby([*AXES, "process"])["value_ns"].median() / NS_PER_MS
    return medians.rename("time_ms").reset_index().assign(kind=CHECK, backend=record.backend)


def what_is_timed(config: Mapping[str, Any], device: str) -> dict[str, dict[str, Any]]:
    """The settings on which the times of decode and of check depend; the grid's sizes are its shapes' own."""
    ignored = (*REPLICATION, *AXES, *(() if device == "cpu" else ONLY_CPU))
    sections = {DECODE: dict(config["decode"]), CHECK: dict(config["check"])}
    for section in sections.values():
        section["dtype"] = section["dtype"][device]
    return {
        kind: {key: value for key, value in flat(section) if key not in ignored} for kind, section in sections.items()
    }


def flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested settings with their dotted keys."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def software(run: Run) -> dict[str, str]:
    """The versions that the run's records name, each once."""
    seen: dict[str, set[str]] = {}
    for record in run.measured:
        environment = (record.facts.get("provenance") or {}).get("environment") or {}
        for key in SOFTWARE:
            seen.setdefault(key, set()).add(str(environment.get(key)))
    return {key: ", ".join(sorted(values)) for key, values in seen.items()}


def identity(record: Record) -> dict[str, Any]:
    """When a record was measured and of what: two records with the same identity are one."""
    about = record.facts.get("provenance") or {}
    return {"utc_time": about.get("utc_time"), "git_commit": about.get("git_commit"), **record.facts.get("stamp", {})}
