"""What all synthetic records share: the machine, the configuration, the header, and what may be wrong with rows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TypeVar

from nsa.config import (
    BuildSettings,
    CheckSettings,
    Config,
    CoreCurveSettings,
    CoreSettings,
    CurveTarget,
    DecodeSettings,
    DramSettings,
    GateSettings,
    RooflineSettings,
)
from nsa.records.facts import Device, Digests, Environment, Provenance, Replicate
from nsa.records.merge import Model
from nsa.records.outcome import Failed, Header, Ok, OutOfMemory, Skipped, Unavailable
from nsa.records.words import CONTROLS, Scalar

GPU = Device(kind="cuda", name="NVIDIA Synthetic", uuid="GPU-0")
CPU = Device(kind="cpu", name="Synthetic CPU", uuid=None)
STAMP = Digests(sources="s0", settings="c0", machine="m0")
OLD = STAMP.model_copy(update={"sources": "old"})
ENVIRONMENT = Environment(
    cuda=True,
    device=GPU.name,
    capability=(9, 0),
    torch="2.13",
    cuda_version="12.9",
    note=None,
    driver="580.1",
    nvml_error=None,
    gpu_uuid=GPU.uuid,
    gpu_count=1,
    memory_bytes=80 * 2**30,
    sm_count=132,
    l2_bytes=50 * 2**20,
    sm_clock_default_mhz=1980,
    sm_clock_max_mhz=1980,
    memory_clock_max_mhz=2600,
    nvcc=None,
    nvcc_path=None,
    triton="3.6",
    python="3.12",
    platform="Linux",
    cpu=CPU.name,
    cpu_cores=2,
)
ABOUT = Provenance(
    git_commit="abc123",
    git_dirty=False,
    git_reason=None,
    utc_time="2026-11-22T10:00:00+00:00",
    environment=ENVIRONMENT,
)
GRID = CheckSettings(
    rows=(256,), heads_per_group=(4,), head_dim=(64,), value_dim=(64, 128), sel_count=(8, 16), seeds=2, cpu_rows=8
)
CORES = CoreSettings(batch=(1, 32), contexts=(8192, 65536), head_dim=(128,))
CURVE = CoreCurveSettings(
    batch=(1, 64),
    contexts=(4096, 8192, 65536),
    max_tokens=64 * 8192,
    targets={
        "fused": (
            CurveTarget(max_batch=1, min_context=1, ratio=1.0, plus_us=15.0),
            CurveTarget(max_batch=64, min_context=8192, ratio=2.0, plus_us=10.0),
        )
    },
)
CONFIG = Config(
    contexts=(128, 2048),
    target_contexts="all",
    max_context=65536,
    baseline="sdpa",
    candidates=("cuda", "triton", "fa2"),
    device="auto",
    build=BuildSettings(),
    decode=DecodeSettings(),
    check=GRID,
    dram=DramSettings(),
    roofline=RooflineSettings(),
    core=CORES,
    core_curve=CURVE,
    gates=GateSettings(),
)
F = TypeVar("F", bound=Model)
Rows = list[dict[str, Scalar]]
Where = Mapping[str, Scalar | tuple[Scalar, ...]]


def device_of(kind: str) -> Device:
    """The machine's GPU, or its CPU."""
    return GPU if kind == "cuda" else CPU


def header(
    stage: str,
    backend: str | None,
    device: str,
    status: str,
    facts: F,
    S: int | None = None,
    said: Mapping[str, object] | None = None,
) -> Header[F]:
    """What a record says of itself.

    Args:
        facts: of a record that is ok.
        said: what differs from a sound header.
    """
    missed = {"unavailable": Unavailable, "failed": Failed, "oom": OutOfMemory, "skipped": Skipped}
    why = {"reason": f"{backend} is not here", "fix": "run on a GPU"}
    outcome = Ok[type(facts)](facts=facts) if status == "ok" else missed[status](**why)
    made = Header[type(facts)].model_construct(
        schema_version=2,
        stage=stage,
        backend=backend,
        S=S,
        device=device_of(device),
        outcome=outcome,
        provenance=ABOUT,
        stamp=STAMP,
    )
    return made.model_copy(update=dict(said or {}))


def replicate(process: int, device: str = "cuda", **changes: object) -> Replicate:
    """One process, whose GPU kept its clock."""
    clock = 1980 if device == "cuda" else None
    sound = Replicate(
        process=process,
        duration_s=10.0,
        sm_clock_min_mhz=clock,
        sm_clock_max_mhz=clock,
        throttle_bits=0 if device == "cuda" else None,
        sm_clock_start_mhz=clock,
        waited_clock_s=0.0,
    )
    return sound.model_copy(update=changes)


def timed_facts(device: str, processes: int) -> dict[str, object]:
    """What every timed stage says."""
    on_cuda = device == "cuda"
    return {
        "device": device_of(device),
        "flush": "write 256 MiB, read 256 MiB" if on_cuda else "none",
        "bandwidth_bytes_per_s": (4e12,) * processes if on_cuda else (),
        "read_bandwidth_bytes_per_s": (3.8e12,) * processes if on_cuda else (),
        "replicates": tuple(replicate(process, device) for process in range(processes)),
        "other_processes": (),
        "notes": (),
    }


def controls(columns: Where, key: str) -> Rows:
    """The control of one process, which takes as long in each."""
    times_ns = zip(CONTROLS, (60_000, 90_000), strict=True)
    return [
        {**columns, key: name, "block": block, "order": place, "value_ns": value + step}
        for place, (name, value) in enumerate(times_ns)
        for block, step in itertools.product(range(2), (0, 32, 64))
    ]


def clocks(device: str) -> dict[str, Scalar]:
    """The state of a GPU that keeps its clock."""
    steady = {"sm_clock_mhz": 1980, "temperature_c": 50, "power_w": 300.0, "throttle_bits": 0}
    return dict(steady) if device == "cuda" else {}


def altered(rows: Rows, drop: Where | None, alter: tuple[Where, Where] | None) -> Rows:
    """The rows without those that match `drop`, and those that match `alter` altered: a time, where there is one.

    A tuple matches each of its values.
    """

    def match(row: Where, where: Where | None) -> bool:
        some = {key: value if isinstance(value, tuple) else (value,) for key, value in (where or {}).items()}
        return where is not None and all(row.get(key) in values for key, values in some.items())

    def timeless(row: Where) -> bool:
        return "value_ns" in new and row.get("value_ns") is None

    where, new = alter or (None, {})
    return [{**row, **new} if match(row, where) and not timeless(row) else row for row in rows if not match(row, drop)]
