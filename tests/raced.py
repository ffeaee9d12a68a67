"""Synthetic records of the roofline: two shapes, three backends, and times whose floors and targets are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from synthetic import GPU, STAMP, Rows, header, replicate

from nsa.config import Target
from nsa.records import parquet, schemas
from nsa.records.facts import RooflineFacts, State
from nsa.records.shapes import GridShape
from nsa.records.words import CONTROLS, Scalar
from nsa.report.analysis.kernel import Tolerance
from nsa.report.analysis.roofline import RooflineReport

H200 = GPU.model_copy(update={"name": "NVIDIA H200"})
TODAY = {"roofline": STAMP}
SETTINGS = RooflineReport(
    targets={"cuda": Target(ratio=1.10, plus_us=7.0), "triton": Target(ratio=1.25, plus_us=9.0)},
    correct=Tolerance(mae=1e-3, error_ratio=2.0),
    confidence=0.95,
)
Row = dict[str, Scalar]
SMALL, LARGE = GridShape(4, 4, 64, 64, 8), GridShape(1024, 4, 128, 128, 16)
FLOORS_US = {SMALL: 4 * 512 * 128 * 2 / 4e6, LARGE: 1024 * 1024 * 256 * 2 / 4e6}  # 0.13 and 134 µs
TIMES_US = {
    ("sdpa", SMALL): 32.0,
    ("sdpa", LARGE): 1000.0,
    ("cuda", SMALL): 7.0,  # the target is 7.14
    ("cuda", LARGE): 160.0,  # the target is 154.6
    ("triton", SMALL): 12.0,
    ("triton", LARGE): 170.0,
}
OK = State(status="ok")
FA2 = State(status="unavailable", reason="it is guarded", fix="set NSA_FA2_FORCE=1")


def made(pace: tuple[float, ...] = (0.99, 1.0, 1.01)) -> Rows:
    """A sound run: every process has its own pace, and one slow outlier on each shape that a median must not see."""
    rows: Rows = []
    for (backend, shape), time_us in TIMES_US.items():
        row = {**vars(shape), "backend": backend, "sel_block": 64, "context": 4096, "groups": 4, "dtype": "bfloat16"}
        row |= {"selected_bytes": round(FLOORS_US[shape] * 4e6)}
        for process, factor in enumerate(pace):
            for value_us in (time_us, time_us, 50 * time_us):
                rows.append({**row, "process": process, "order": 0, "value_ns": round(1e3 * factor * value_us)})
            right = {"mae": 1e-5, "oracle_error": 2e-3, "sdpa_oracle_error": 1.9e-3}
            rows.append({**row, "process": process, "seed": process, **right})
    for process, factor in enumerate(pace):
        rows += [{"backend": name, "process": process, "value_ns": round(60_000 * factor)} for name in CONTROLS]
        rows += [{"backend": "empty", "process": process, "value_ns": round(3400 * factor)} for _ in range(3)]
    return rows


def write(
    folder: Path,
    rows: Rows | None = None,
    facts: dict[str, object] | None = None,
    said: dict[str, object] | None = None,
    status: str = "ok",
    processes: int = 3,
) -> Path:
    """A record with these rows, and with what differs from a sound record's facts and header."""
    known = RooflineFacts(
        device=H200,
        flush="write 256 MiB, read 256 MiB",
        bandwidth_bytes_per_s=(3.9e12, 4.1e12) * processes,
        read_bandwidth_bytes_per_s=(3.7e12, 3.8e12) * processes,
        replicates=tuple(replicate(process) for process in range(processes)),
        other_processes=(),
        notes=(),
        backends={"sdpa": OK, "cuda": OK, "triton": OK, "fa2": FA2},
    ).model_copy(update=facts or {})
    path = folder / "roofline.parquet"
    about = {"device": known.device, **(said or {})}
    made_of = header("roofline", None, "cuda", status, known, said=about)
    parquet.write(path, made() if rows is None else rows, schemas.ROOFLINE, made_of)
    return path


def altered(change: Callable[[Row], Row | None]) -> Rows:
    """The sound rows with this change; rows that become None are left out."""
    return [new for row in made() if (new := change(dict(row))) is not None]
