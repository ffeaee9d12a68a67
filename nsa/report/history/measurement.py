"""A row of the history: what one record measured, with what a later comparison needs of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from pydantic import JsonValue

from nsa.config import Config
from nsa.records.facts import CoreFacts, TimedFacts
from nsa.records.made import Identity
from nsa.records.shapes import CORE_AXES, CoreShape, GridShape
from nsa.records.words import CONTROL, CONTROLS
from nsa.report.accepted.keep import (
    CHECK,
    DECODE,
    ONLY_CPU,
    REPLICATION,
    SOFTWARE,
    AcceptedRun,
    Timed,
    flush,
    identity_of,
    process_medians,
    what_is_timed,
)
from nsa.report.accepted.relative import geometric_mean, shape_times, step_times
from nsa.report.analysis.control import controlled
from nsa.report.analysis.core import core_name
from nsa.report.analysis.read import Record, cell_name, check_name
from nsa.report.analysis.stats import NS_PER_MS, Estimate, log_interval
from nsa.report.verdict.checks import blocking
from nsa.report.verdict.run import Run
from nsa.settings import leaves

CORE = "core"
CONFIDENCE = 0.95  # of every interval of a history, whatever the gates of a run ask for
CORE_DRAWN = (
    "batch",
    "contexts",
    "head_dim",
    "draws",
    "cpu_batch",
    "cpu_context",
)  # the shapes say it, or it is no size
TIMES = pa.list_(pa.float64())
SCHEMA = pa.schema(
    [
        ("digest", pa.string()),  # of the record's name and identity: no record has two rows
        ("run_utc", pa.string()),  # when the last of the records that one report added was measured
        ("kind", pa.string()),  # decode, check or core
        ("backend", pa.string()),
        ("S", pa.int32()),  # of a decode cell
        ("shapes", pa.list_(pa.string())),  # of a check
        ("measured_utc", pa.string()),
        ("git_commit", pa.string()),
        ("git_dirty", pa.bool_()),
        ("time_ms", pa.float64()),  # of a decode step, or the geometric mean over the shapes
        ("time_ms_lo", pa.float64()),  # its 95 % interval over the processes; null of a single one
        ("time_ms_hi", pa.float64()),
        ("processes", pa.list_(pa.int32())),
        ("times_ms", TIMES),  # of each process
        ("train_ms", TIMES),  # of each process, the control's two workloads beside it
        ("copy_ms", TIMES),
        ("verdict", pa.string()),  # of a check, or of a target context of the baseline
        ("blocked", pa.string()),  # the blocking checks that fired on it: its times decide nothing
        ("accepted", pa.bool_()),  # whether it was once that of the accepted run
        ("settings", pa.string()),  # JSON: what was timed, by dotted keys
        ("software", pa.string()),  # JSON: the versions it was measured with
    ]
)


@dataclass(frozen=True)
class Measurement:
    """One record that a GPU measured; the attributes are the columns of SCHEMA."""

    digest: str
    run_utc: str
    kind: str
    backend: str
    S: int | None
    shapes: tuple[str, ...]
    measured_utc: str
    git_commit: str | None
    git_dirty: bool | None
    time_ms: float
    time_ms_lo: float | None
    time_ms_hi: float | None
    processes: tuple[int, ...]
    times_ms: tuple[float, ...]
    train_ms: tuple[float, ...]
    copy_ms: tuple[float, ...]
    verdict: str | None
    blocked: str | None
    accepted: bool
    settings: str
    software: str

    @property
    def of(self) -> tuple[str, str, int | None]:
        """What later measurements are beside: the kind, the backend and S."""
        return self.kind, self.backend, self.S

    @property
    def time(self) -> Estimate:
        """In ms, with its interval over the processes."""
        low, high = (-math.inf, math.inf) if self.time_ms_lo is None else (self.time_ms_lo, self.time_ms_hi)
        return Estimate(self.time_ms, low, high if high is not None else math.inf, len(self.processes))

    @property
    def times(self) -> pd.Series[float]:
        """In ms by process."""
        return pd.Series(self.times_ms, self.processes, dtype=float)

    @property
    def control(self) -> dict[str, pd.Series[float]]:
        """The control's times in ms by process, by the workload's name; none where it was not timed beside it."""
        found = dict(zip(CONTROLS, (self.train_ms, self.copy_ms), strict=True))
        return {name: pd.Series(times, self.processes, dtype=float) for name, times in found.items() if times}


def of_run(run: Run, config: Config) -> list[Measurement]:
    """Every record of a run that a GPU measured; none of a CPU, whose times decide nothing."""
    if run.device is None or run.device.kind != "cuda":
        return []
    targets = {each.S: each.verdict for each in run.invest.contexts}
    judged = {cell_name(run.invest.baseline, S): verdict for S, verdict in targets.items()}
    judged |= {check_name(found.backend): found.verdict for found in run.accepts}
    judged |= {core_name(found.backend): found.verdict for found in run.core_accepts}
    records: dict[str, Record[TimedFacts]] = {**run.records, **{core.name: core for core in run.cores.values()}}
    timed: dict[str, dict[str, JsonValue]] = {kind: dict(of) for kind, of in what_is_timed(run, config).items()}
    timed[CORE] = core_settings(run, config)
    found = []
    for kind, backend, S, times, shapes in (*_timed(process_medians(run)), *_cores(run)):
        record = records[_name(kind, backend, S)]
        identity, about = identity_of(record), record.provenance
        if identity is None or about is None:
            continue
        versions = {key: str(getattr(about.environment, key)) for key in SOFTWARE}
        blocked = ", ".join(check.name for check in blocking(run.checks, record.name)) or None
        of = Origin(identity, about.git_dirty, versions, judged.get(record.name), blocked, False)
        found.append(_measurement(kind, backend, S, times, shapes, timed, of))
    return found


def of_accepted(accepted: AcceptedRun) -> list[Measurement]:
    """Every record of an accepted run."""
    header, found = accepted.header, []
    for kind, backend, S, times, shapes in _timed(accepted.times):
        identity = header.records.get(_name(kind, backend, S))
        if identity is not None:
            of = Origin(identity, header.git_dirty, header.software, None, None, True)
            found.append(_measurement(kind, backend, S, times, shapes, header.timed, of))
    return found


@dataclass(frozen=True)
class Origin:
    """Where a measurement comes from, and what was said of it."""

    identity: Identity
    git_dirty: bool | None
    software: Mapping[str, str]
    verdict: str | None
    blocked: str | None
    accepted: bool


def core_settings(run: Run, config: Config) -> dict[str, JsonValue]:
    """What the times of a core check depend on; its sizes are its shapes' own."""
    core: dict[str, JsonValue] = config.core.model_dump(mode="json")
    core |= {"dtype": config.core.dtype.of("cuda"), "flush": flush(list(run.cores.values()))}
    return {key: value for key, value in leaves(core) if key not in (*REPLICATION, *ONLY_CPU, *CORE_DRAWN)}


Found = tuple[str, str, int | None, pd.DataFrame, tuple[str, ...]]  # kind, backend, S, see _beside, shapes


def _timed(times: pd.DataFrame) -> Iterator[Found]:
    """The decode cells and kernel checks in rows of nsa.report.accepted.keep.MEDIANS."""
    controls = {name: step_times(times, name) for name in CONTROLS}
    for (backend, S), own in step_times(times).items():
        beside = {name: of[backend, S] for name, of in controls.items() if (backend, S) in of}
        yield DECODE, backend, S, _beside(own, beside), ()
    for backend in dict.fromkeys(times[times["kind"] == CHECK]["backend"]):
        own_shapes = shape_times(times, backend)
        of_control = {name: shape_times(times, backend, name) for name in CONTROLS}
        beside = {name: geometric_mean(of) for name, of in of_control.items() if set(of) == set(own_shapes)}
        shapes = tuple(str(GridShape(*map(int, shape))) for shape in own_shapes.columns)
        yield CHECK, str(backend), None, _beside(geometric_mean(own_shapes), beside), shapes


def _cores(run: Run) -> Iterator[Found]:
    """The core checks of a run; the control is that of the shape where it is smallest, see `controlled`."""
    for core in run.cores.values():
        if core.ok and core.on_cuda:
            own = core_times(core)
            beside = {str(name): times / NS_PER_MS for name, times in controlled(core).items()}
            shapes = tuple(str(CoreShape.of(shape)) for shape in own.columns)
            yield CORE, core.backend, None, _beside(geometric_mean(own), beside), shapes


def core_times(core: Record[CoreFacts]) -> pd.DataFrame:
    """The medians of a core in ms: a row per process and a column per shape."""
    rows = core.rows[(core.rows["backend"] == core.backend) & core.rows["value_ns"].notna()]
    medians = rows.groupby(["process", *CORE_AXES])["value_ns"].median() / NS_PER_MS
    return medians.unstack(list(CORE_AXES))


def _beside(own: pd.Series[float], control: Mapping[str, pd.Series[float]]) -> pd.DataFrame:
    """Times in ms by process: a column `own`, and one for each workload of the control."""
    return pd.DataFrame({"own": own, **control}).dropna(subset=["own"])


def _measurement(
    kind: str,
    backend: str,
    S: int | None,
    times: pd.DataFrame,
    shapes: tuple[str, ...],
    timed: Timed,
    of: Origin,
) -> Measurement:
    time = log_interval(times["own"], CONFIDENCE)
    name, identity = _name(kind, backend, S), of.identity
    text = json.dumps([name, identity.model_dump(mode="json")], sort_keys=True)
    controls = {name: tuple(times[name]) if name in times else () for name in CONTROLS}
    return Measurement(
        digest=hashlib.sha256(text.encode()).hexdigest(),
        run_utc=identity.utc_time,
        kind=kind,
        backend=backend,
        S=S,
        shapes=shapes,
        measured_utc=identity.utc_time,
        git_commit=identity.git_commit,
        git_dirty=of.git_dirty,
        time_ms=time.value,
        time_ms_lo=time.low if time.replicated else None,
        time_ms_hi=time.high if time.replicated else None,
        processes=tuple(int(process) for process in times.index),
        times_ms=tuple(times["own"]),
        **{f"{name.removeprefix(CONTROL)}_ms": of_control for name, of_control in controls.items()},
        verdict=of.verdict,
        blocked=of.blocked,
        accepted=of.accepted,
        settings=json.dumps(timed.get(kind, {}), sort_keys=True),
        software=json.dumps(dict(of.software), sort_keys=True),
    )


def _name(kind: str, backend: str, S: int | None) -> str:
    """The name of the record, as checks and reports call it."""
    if kind == DECODE:
        assert S is not None
        return cell_name(backend, S)
    return check_name(backend) if kind == CHECK else core_name(backend)
