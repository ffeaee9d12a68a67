"""What holds for a whole record, typed: whoever writes it and whoever reads it have the same types."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import JsonValue

from nsa.records.merge import Merge, Model
from nsa.records.shapes import CheckShape

SCHEMA_VERSION: Literal[2] = 2


class Device(Model):
    """What a record was measured on."""

    kind: Literal["cpu", "cuda"]
    name: str  # the model, "NVIDIA H200"
    uuid: str | None  # of the card; None of a CPU


class Environment(Model):
    """What the machine is and what torch can use of it (docs/method.md#the-guide); what it cannot tell is None."""

    cuda: bool  # with the four below what the guide's sanity check prints
    device: str | None
    capability: tuple[int, int] | None
    torch: str
    cuda_version: str | None
    note: str | None  # why there is no CUDA device
    driver: str | None
    nvml_error: str | None  # why NVML's part is None
    gpu_uuid: str | None
    gpu_count: int
    memory_bytes: int | None
    sm_count: int | None
    l2_bytes: int | None
    sm_clock_default_mhz: int | None
    sm_clock_max_mhz: int | None
    memory_clock_max_mhz: int | None
    nvcc: str | None
    nvcc_path: str | None
    triton: str | None
    python: str
    platform: str
    cpu: str
    cpu_cores: int | None


class Provenance(Model):
    """Where a record comes from: the code (git), the time (UTC) and the probed environment."""

    git_commit: str | None
    git_dirty: bool | None
    git_reason: str | None  # why there is no commit
    utc_time: str
    environment: Environment


class Digests(Model):
    """What a record carries of the stamp that it was made under: another digest makes it stale."""

    sources: str
    settings: str
    machine: str | None  # None where another machine gives the same result


class Geometry(Model):
    """The layer and the step of one decode cell; see nsa.shapes for the paper's symbols."""

    S: int
    batch: int
    dim: int
    heads: int
    groups: int
    head_dim: int
    value_dim: int
    cmp_block: int
    cmp_stride: int
    sel_block: int
    sel_count: int
    window: int
    phi: str
    dtype: str
    seed: int


class Reads(Model):
    """KV tokens that one step touches per (sequence, group): counted in each branch, and the closed form."""

    cmp: float
    sel: float
    win: float
    actual: float
    expected: float


class Replicate(Model):
    """One process of a timed stage, and the state of the GPU while it timed; None where NVML does not tell."""

    process: int
    duration_s: float  # from its start to its end, waiting for its turn left out
    sm_clock_min_mhz: int | None
    sm_clock_max_mhz: int | None
    throttle_bits: int | None  # NVML's clock event reasons, seen at any time


class LeftOut(Model):
    """A kernel that did not take part on a shape, and why."""

    name: str
    shape: str
    reason: str


class TimedFacts(Model):
    """What every timed stage records.

    Attributes:
        flush: how the L2 is emptied before a cold repetition: part of what was timed.
        bandwidth_bytes_per_s: of a large copy, bytes read and written, in each process; empty on a CPU.
        read_bandwidth_bytes_per_s: of reading alone, likewise.
        notes: what the backend says of how its calls were made.
    """

    contract: Annotated[Literal["selection"], Merge.SAME] = "selection"
    device: Annotated[Device, Merge.SAME]
    flush: Annotated[str, Merge.SAME]
    bandwidth_bytes_per_s: Annotated[tuple[float, ...], Merge.EACH]
    read_bandwidth_bytes_per_s: Annotated[tuple[float, ...], Merge.EACH]
    replicates: Annotated[tuple[Replicate, ...], Merge.EACH]
    other_processes: Annotated[tuple[int, ...], Merge.UNITED]
    notes: Annotated[tuple[JsonValue, ...], Merge.UNITED]


class DecodeFacts(TimedFacts):
    """A decode cell that ran.

    Attributes:
        parts: what computed compressed attention and routing, torch or triton.
        variant: the backend's own among its variants of packed SDPA; None of a backend without any.
        variants: the others, which were timed beside it.
        left_out: the others that were not, and why.
        emit_weight: share of the steps that add a compressed token.
        outputs_finite: of every arm, its unread memory poisoned, the timed replays included.
        routing_fault: the first case in which routing did not choose the oracle's blocks.
        launches: how often each arm launches each kernel (operator, on a CPU); counted once a cell.
    """

    geometry: Annotated[Geometry, Merge.SAME]
    reads: Annotated[Reads, Merge.SAME]
    bytes_read: Annotated[int, Merge.SAME]
    parts: Annotated[Literal["torch", "triton"], Merge.SAME]
    variant: Annotated[str | None, Merge.SAME] = None
    variants: Annotated[tuple[str, ...], Merge.SAME] = ()
    left_out: Annotated[tuple[LeftOut, ...], Merge.UNITED] = ()
    emit_weight: Annotated[float, Merge.SAME]
    outputs_finite: Annotated[bool, Merge.ALL]
    routing_fault: Annotated[str | None, Merge.FIRST]
    launches: Annotated[dict[str, dict[str, int]] | None, Merge.FIRST]


class CheckFacts(TimedFacts):
    """A kernel check that ran.

    Attributes:
        grid: which shapes; `guide` is the acceptance grid of config.yaml.
        left_out: packed SDPA variants that refuse a shape.
    """

    grid: Annotated[Literal["guide"], Merge.SAME] = "guide"
    dtype: Annotated[str, Merge.SAME]
    left_out: Annotated[tuple[LeftOut, ...], Merge.UNITED]


class State(Model):
    """Whether one of several backends took part in a stage, and why not."""

    status: Literal["ok", "unavailable", "failed", "oom"]
    reason: str | None = None
    fix: str | None = None


class RooflineFacts(TimedFacts):
    """A roofline run; bandwidth_bytes_per_s holds the copy before and after each process."""

    backends: Annotated[dict[str, State], Merge.SAME]


class KernelBytes(Model):
    """DRAM bytes of one kernel."""

    name: str
    bytes_read: int
    bytes_written: int


class CountedShape(Model):
    """One call of a backend's kernel, counted by the hardware, beside what it must move."""

    shape: CheckShape
    bytes_expected: int
    bytes_read: int
    bytes_written: int
    ratio: float  # (read + written) / expected
    kernels: tuple[KernelBytes, ...]


class DramFacts(Model):
    """A DRAM count that ran."""

    device: Device
    shapes: tuple[CountedShape, ...]
