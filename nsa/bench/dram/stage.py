"""The DRAM stage: the bytes that the hardware counted for a backend's kernel, beside the bytes expected.

It is optional: where there is no ncu or no CUDA device, its record says so and nothing is counted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsa.bench.runner import open_stage
from nsa.config import CheckSettings
from nsa.errors import BackendUnavailable, ProfilerFailed
from nsa.kernels import registry
from nsa.machine import ncu
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.records import files, parquet

if TYPE_CHECKING:
    from nsa.bench.method.inputs import CheckShape

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
INDEX_BYTES = 4  # block_indices and seq_lens are int32


@dataclass(frozen=True)
class Job:
    """What one profiled process runs."""

    backend: str
    shape: CheckShape
    host: Host


def run(backend: str, stamp: Mapping[str, Any], environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Count one backend's bytes as the stamp's settings say and write its record, whatever its status."""
    host, provenance = open_stage(stamp, environment, artifacts)
    settings = CheckSettings.from_dict(stamp["settings"]["check"])
    facts = measure(backend, settings, stamp["settings"]["ncu"], host, os.environ, lambda line: print(line, flush=True))
    if facts["status"] == "failed":
        facts["fix"] += f"; then delete {out} and run again"  # nothing that is stamped changes with the fix
    record = {"schema_version": parquet.SCHEMA_VERSION, **facts, **provenance}
    files.write_text(out, json.dumps(record, indent=1, allow_nan=False) + "\n")


def measure(
    backend: str,
    settings: CheckSettings,
    mode: str,
    host: Host,
    environ: Mapping[str, str],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The record of one backend: its status with reason and fix, and the counted shapes.

    Args:
        backend: whose kernel is profiled, outside of any graph; no other takes its place.
        settings: the acceptance grid, of which a few shapes are counted.
        mode: auto (count where ncu and a CUDA device are found), require (their absence is a failure) or skip.
        host: where to count.
        environ: where to look for ncu.
        say: receives lines of progress, and what ncu said.
    """
    program = ncu.find(environ)
    facts: dict[str, Any] = {"stage": "dram", "backend": backend, "device": host.device, "shapes": []}
    facts |= {"device_name": host.device_name, "device_uuid": host.device_uuid, "ncu": program and str(program)}

    def ended(status: str, reason: str, fix: str) -> dict[str, Any]:
        say(f"dram {backend}: {status}: {reason}")
        return {**facts, "status": status, "reason": reason, "fix": fix}

    missing = "failed" if mode == "require" else "skipped"
    if mode == "skip":
        return ended("skipped", "dram.ncu is skip", "set dram.ncu to auto")
    if host.device != "cuda":
        return ended(missing, "no CUDA device whose DRAM could be counted", "run on a machine with an NVIDIA GPU")
    if program is None:
        return ended(missing, f"no ncu in {ncu.SEARCHED}", "install Nsight Compute, or set dram.ncu to skip")
    try:
        registry.require(backend, host.machine, host.flags)
    except BackendUnavailable as error:
        return ended("unavailable", error.reason, error.fix)

    from nsa.bench.dram.profile import profile  # pandas and torch: imported only where something is counted

    counted = []
    with one_gpu(host, say) as card:
        facts["device_uuid"] = card.device_uuid
        for shape in shapes(settings):
            try:
                kernels = profile(program, Job(backend, shape, card), say)
            except ProfilerFailed as error:
                return ended("failed", error.reason, error.fix)
            counted.append(row(shape, kernels))
            say(f"dram {backend}: {shape}: {counted[-1]['ratio']:.3f} of the bytes expected")
    return {**facts, "shapes": counted, "status": "ok", "reason": None, "fix": None}


def shapes(settings: CheckSettings) -> list[CheckShape]:
    """At most four shapes of the grid: the smallest and the largest sizes at the two largest numbers of rows."""
    from nsa.bench.method.inputs import grid

    rows, heads = sorted(settings.rows)[-2:], min(settings.heads_per_group)
    corners = [(end(settings.head_dim), end(settings.value_dim), end(settings.sel_count)) for end in (min, max)]
    return [
        shape
        for shape in grid(settings, "cuda")
        if shape.rows in rows
        and shape.heads_per_group == heads
        and (shape.head_dim, shape.value_dim, shape.sel_count) in corners
    ]


def expected_bytes(shape: CheckShape) -> int:
    """What a call on cases.full_case must move: selected K and V, q, o, block_indices and seq_lens, each once."""
    blocks = -(-shape.context // shape.sel_block)
    beyond = blocks * shape.sel_block - shape.context  # of the last block, which is always among the selected
    tokens = min(shape.sel_count, blocks) * shape.sel_block - beyond
    values = shape.rows * (tokens + shape.heads_per_group) * (shape.head_dim + shape.value_dim)
    indices = shape.rows * shape.sel_count + shape.rows // shape.groups
    return values * ITEM_BYTES[shape.dtype] + indices * INDEX_BYTES


def row(shape: CheckShape, kernels: list[dict[str, Any]]) -> dict[str, Any]:
    """One counted shape: read and written apart, their sum, its ratio to the bytes expected, and each kernel's part."""
    read, written = (sum(kernel[key] for kernel in kernels) for key in ("bytes_read", "bytes_written"))
    expected = expected_bytes(shape)
    return {
        **asdict(shape),
        "bytes_expected": expected,
        "bytes_read": read,
        "bytes_written": written,
        "bytes_counted": read + written,
        "ratio": (read + written) / expected,
        "kernels": kernels,
    }
