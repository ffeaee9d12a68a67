"""What holds for a whole record, typed: its origin, its times, and what each check says (decode cells: decode.py)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import JsonValue

from nsa.records.merge import Merge, Model
from nsa.records.shapes import CoreShape, GridShape

SCHEMA_VERSION: Literal[2] = 2


class Device(Model):
    """What a record was measured on."""

    kind: Literal["cpu", "cuda"]
    name: str  # the model, "NVIDIA H200"
    uuid: str | None  # of the card; None of a CPU


class Environment(Model):
    """What the machine is and what torch can use of it (docs/guide.md); what it cannot tell is None."""

    cuda: bool  # with the four below what the guide's sanity check prints
    device: str | None
    capability: tuple[int, int] | None
    torch: str
    cuda_version: str | None
    note: str | None  # why there is no CUDA device
    fix: str | None = None  # and what to do about it
    shown_gpus: tuple[str, ...] = ()  # the models that the driver shows, whether torch can use them or not
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

    @property
    def unused_gpu(self) -> str | None:
        """A GPU that is here and that torch cannot use, with the reason; None where there is no such thing."""
        if self.cuda or not self.shown_gpus:
            return None
        shown = ", ".join(dict.fromkeys(self.shown_gpus))
        return f"the driver shows {shown}, which torch cannot use: {self.note}"


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


class Replicate(Model):
    """One process of a timed stage, and the state of the GPU while it timed; None where NVML does not tell."""

    process: int
    duration_s: float  # from its start to its end, waiting for its turn left out
    sm_clock_min_mhz: int | None
    sm_clock_max_mhz: int | None
    throttle_bits: int | None  # NVML's clock event reasons, seen at any time
    sm_clock_start_mhz: int | None  # at its first block, for which later blocks wait
    waited_clock_s: float  # for the clock to be back there, all blocks together


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

    contract: Annotated[Literal["selection", "core"], Merge.SAME] = "selection"
    device: Annotated[Device, Merge.SAME]
    flush: Annotated[str, Merge.SAME]
    bandwidth_bytes_per_s: Annotated[tuple[float, ...], Merge.EACH]
    read_bandwidth_bytes_per_s: Annotated[tuple[float, ...], Merge.EACH]
    replicates: Annotated[tuple[Replicate, ...], Merge.EACH]
    other_processes: Annotated[tuple[int, ...], Merge.UNITED]
    notes: Annotated[tuple[JsonValue, ...], Merge.UNITED]


class Switches(Model):
    """torch's switches for a whole process (nsa/bench/method/switches.py)."""

    deterministic_algorithms: bool
    float32_matmul: str  # "ieee", "tf32" or "none"
    sdpa_backends: tuple[str, ...]  # that are enabled
    cudnn_benchmark: bool
    default_dtype: str
    grad_enabled: bool
    threads: int


class Alone(Model):
    """What a packed SDPA variant took on a shape before the candidate was loaded: the median of one process."""

    process: int
    backend: str  # as in the table's rows
    shape: GridShape
    median_ns: float


class Clocked(Model):
    """Replays of a candidate without a pause, by the judge's clock, beside its own events (docs/kernel_check.md)."""

    process: int
    replays: int
    queries: int  # that were new to it, each for as many of the replays
    burst_ns: float  # a replay, by the judge's clock
    events_ns: float  # the median of its timed replays, by the candidate's events
    empty_ns: float  # a replay of an empty graph of the judge's, with as much around it, by the same clock


class Burst(Clocked):
    """That of a selection kernel."""

    shape: GridShape


class CoreBurst(Clocked):
    """That of a decode core."""

    shape: CoreShape


class CheckFacts(TimedFacts):
    """A kernel check that ran.

    Attributes:
        grid: which shapes; `guide` is the acceptance grid of config.yaml.
        left_out: packed SDPA variants that refuse a shape.
        baseline_alone: packed SDPA's times before the candidate was loaded; empty where nothing was timed.
        bursts: of every shape that was timed.
        switches: torch's in the process that judges.
        switched: which of them the candidate changed in its process.
    """

    grid: Annotated[Literal["guide"], Merge.SAME] = "guide"
    dtype: Annotated[str, Merge.SAME]
    left_out: Annotated[tuple[LeftOut, ...], Merge.UNITED]
    baseline_alone: Annotated[tuple[Alone, ...], Merge.EACH] = ()
    bursts: Annotated[tuple[Burst, ...], Merge.EACH] = ()
    switches: Annotated[Switches | None, Merge.SAME] = None
    switched: Annotated[tuple[str, ...], Merge.UNITED] = ()


class CoreFacts(TimedFacts):
    """A core check that ran.

    Attributes:
        grid: which shapes; `paper` is that of config.yaml's section `core`.
        left_out: dense attention that is not installed, or refuses a shape.
        bursts: of every shape that was timed.
        switches: torch's in the process that judges.
        switched: which of them the core changed in its process.
    """

    contract: Annotated[Literal["selection", "core"], Merge.SAME] = "core"
    grid: Annotated[Literal["paper"], Merge.SAME] = "paper"
    dtype: Annotated[str, Merge.SAME]
    left_out: Annotated[tuple[LeftOut, ...], Merge.UNITED]
    bursts: Annotated[tuple[CoreBurst, ...], Merge.EACH] = ()
    switches: Annotated[Switches | None, Merge.SAME] = None
    switched: Annotated[tuple[str, ...], Merge.UNITED] = ()


class State(Model):
    """Whether one of several backends took part in a stage, and why not."""

    status: Literal["ok", "unavailable", "failed", "oom"]
    reason: str | None = None
    fix: str | None = None


class RooflineFacts(TimedFacts):
    """A roofline run; bandwidth_bytes_per_s holds the copy before and after each process."""

    backends: Annotated[dict[str, State], Merge.SAME]
