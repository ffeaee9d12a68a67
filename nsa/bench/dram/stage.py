"""The DRAM stage: the bytes that the hardware counted for a backend's kernel, beside the bytes expected.

It is optional: where there is no ncu or no CUDA device, its record says so and nothing is counted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from nsa.bench.dram.job import Job
from nsa.bench.dram.profile import profile
from nsa.bench.records import header, open_stage
from nsa.bench.runner import Result, Say
from nsa.config import CheckSettings
from nsa.errors import BackendUnavailable, KernelFailed, ProfilerFailed
from nsa.kernels import registry
from nsa.layout import Layout
from nsa.machine import ncu
from nsa.machine.gpus import one_gpu
from nsa.machine.host import Host
from nsa.machine.process import announce
from nsa.records import files
from nsa.records.dram import CountedShape, DramFacts, KernelBytes
from nsa.records.grids import grid
from nsa.records.outcome import Failed, Ok, Skipped, Unavailable
from nsa.records.shapes import CheckShape
from nsa.records.words import ITEM_BYTES

INDEX_BYTES = 4  # block_indices and seq_lens are int32


def run(backend: str, stamp: Path, environment: Path, artifacts: Sequence[Path], out: Path) -> None:
    """Count one backend's bytes as the stamp's settings say and write its record, whatever its outcome."""
    opened = open_stage(stamp, environment, artifacts)
    settings = opened.section("check", CheckSettings, complete=False)
    mode = str(opened.settings["ncu"])
    result = measure(backend, settings, mode, opened.host, os.environ, lambda line: print(line, flush=True))
    if isinstance(result.outcome, Failed):  # the fix changes no stamp, so the record would stay
        again = result.outcome.model_copy(update={"fix": f"{result.outcome.fix}; then delete {out} and run again"})
        result = Result(result.device, again)
    files.write_model(out, header(opened, "dram", result, backend))


def measure(
    backend: str, settings: CheckSettings, mode: str, host: Host, environ: Mapping[str, str], say: Say
) -> Result[DramFacts]:
    """The counted shapes of one backend, or why there are none.

    Args:
        backend: whose kernel is profiled, outside of any graph; no other takes its place.
        settings: the acceptance grid, of which a few shapes are counted.
        mode: auto (count where ncu and a CUDA device are found), require (their absence is a failure) or skip.
        host: where to count.
        environ: where to look for ncu.
        say: receives lines of progress, and what ncu said.
    """
    device, program = host.device, ncu.find(environ)
    missing: type[Failed | Skipped] = Failed if mode == "require" else Skipped
    outcome: Failed | Skipped | Unavailable
    try:
        if mode == "skip":
            outcome = Skipped(reason="dram.ncu is skip", fix="set dram.ncu to auto")
        elif device.kind != "cuda":
            outcome = missing(reason="no CUDA device whose DRAM could be counted", fix=host.machine.fix)
        elif program is None:
            fix = "install Nsight Compute, or set dram.ncu to skip"
            outcome = missing(reason=f"no ncu in {ncu.SEARCHED}", fix=fix)
        else:
            registry.require(backend, host.machine, host.flags)
            with one_gpu(host, say) as card:
                device = card.device
                return Result(device, Ok(facts=count(program, backend, settings, card, say)))
    except BackendUnavailable as error:
        outcome = Unavailable(reason=error.reason, fix=error.fix)
    except ProfilerFailed as error:
        outcome = Failed(reason=error.reason, fix=error.fix)
    except KernelFailed as error:
        outcome = Failed(reason=str(error), fix=f"see {Layout().log(f'dram_{backend}')}, and {error.fix}")
    say(f"dram {backend}: {outcome.status}: {outcome.reason}")
    if isinstance(outcome, Failed):
        announce(f"dram {backend}: failed: {outcome.reason}; {outcome.fix}")
    return Result(device, outcome)


def count(program: Path, backend: str, settings: CheckSettings, card: Host, say: Say) -> DramFacts:
    """Profile a backend's kernel on a few shapes.

    Raises:
        ProfilerFailed: ncu gave nothing that can be used.
    """
    chosen = shapes(settings)
    counted = [
        counted_shape(shape, kernels)
        for shape, kernels in zip(chosen, profile(program, Job(backend, tuple(chosen), card), say), strict=True)
    ]
    for shape, row in zip(chosen, counted, strict=True):
        say(f"dram {backend}: {shape}: {row.ratio:.3f} of the bytes expected")
    return DramFacts(device=card.device, shapes=tuple(counted))


def shapes(settings: CheckSettings) -> list[CheckShape]:
    """At most four shapes of the grid: the smallest and the largest sizes at the two largest numbers of rows."""
    rows, heads = sorted(settings.rows)[-2:], min(settings.heads_per_group)
    ends: tuple[Literal["min", "max"], ...] = ("min", "max")
    corners = [
        tuple(
            (min if end == "min" else max)(axis) for axis in (settings.head_dim, settings.value_dim, settings.sel_count)
        )
        for end in ends
    ]
    return [
        shape
        for shape in grid(settings, "cuda")
        if shape.rows in rows
        and shape.heads_per_group == heads
        and (shape.head_dim, shape.value_dim, shape.sel_count) in corners
    ]


def expected_bytes(shape: CheckShape) -> int:
    """What a call on full_case must move: selected K and V, q, o, block_indices and seq_lens, each once."""
    blocks = -(-shape.context // shape.sel_block)
    beyond = blocks * shape.sel_block - shape.context  # of the last block, which is always among the selected
    tokens = min(shape.sel_count, blocks) * shape.sel_block - beyond
    values = shape.rows * (tokens + shape.heads_per_group) * (shape.head_dim + shape.value_dim)
    indices = shape.rows * shape.sel_count + shape.rows // shape.groups
    return values * ITEM_BYTES[shape.dtype] + indices * INDEX_BYTES


def counted_shape(shape: CheckShape, kernels: Sequence[KernelBytes]) -> CountedShape:
    """One shape: read and written apart, the ratio of their sum to the bytes expected, and each kernel's part."""
    read, written = sum(kernel.bytes_read for kernel in kernels), sum(kernel.bytes_written for kernel in kernels)
    expected = expected_bytes(shape)
    return CountedShape(
        shape=shape,
        bytes_expected=expected,
        bytes_read=read,
        bytes_written=written,
        ratio=(read + written) / expected,
        kernels=tuple(kernels),
    )
