"""The sections of config.yaml: every key with its bounds and the guide's default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from nsa import backends
from nsa.settings import (
    Count,
    Counts,
    Distinct,
    Dtype,
    Number,
    Positive,
    Seconds,
    Seed,
    Settings,
    Share,
    Whole,
    refuse,
    unknown_key,
)
from nsa.shapes import MAX_HEADS_PER_GROUP, MAX_SEL_COUNT, NsaShape

Mode = Literal["auto", "require", "skip"]
Heads = Annotated[
    tuple[Annotated[int, Whole(1, MAX_HEADS_PER_GROUP)], ...], Distinct("a list of distinct numbers of heads")
]
SelCounts = Annotated[
    tuple[Annotated[int, Whole(1, MAX_SEL_COUNT)], ...], Distinct("a list of distinct numbers of blocks")
]


class DtypeByDevice(Settings):
    """The dtype on each kind of device."""

    cuda: Dtype = "bfloat16"
    cpu: Dtype = "float32"

    def of(self, device: str) -> Dtype:
        """That on "cuda" or "cpu"."""
        return self.cuda if device == "cuda" else self.cpu


class BuildSettings(Settings):
    """The CUDA extension: built where nvcc is found, in any case (a missing nvcc is a failure), or not."""

    cuda: Mode = "auto"


class DecodeSettings(Settings):
    """How one decode cell is measured (docs/timing.md)."""

    batch: Count = 1
    dtype: DtypeByDevice = Field(default_factory=DtypeByDevice)
    model: NsaShape = Field(default_factory=NsaShape)
    # the step beside selection or a core: Triton kernels where a GPU and Triton are, else torch operators; or these
    parts: Literal["best", "torch"] = "best"
    iters: Count = 32
    warmup: Annotated[int, Whole(0)] = 8
    processes: Count = 3
    cpu_threads: Count = 1
    timeout_s: Seconds = 600  # of one process
    seed: Seed = 0


class CheckSettings(Settings):
    """The acceptance grid and how it is checked (docs/kernel_check.md)."""

    rows: Counts = (256, 1024)
    heads_per_group: Heads = (4, 8)
    head_dim: Counts = (64, 128)
    value_dim: Counts = (64, 128)
    sel_count: SelCounts = (8, 16)
    sel_block: Count = 64
    groups: Count = 4
    context: Count = 4096
    dtype: DtypeByDevice = Field(default_factory=DtypeByDevice)
    seeds: Count = 5
    iters: Count = 25
    processes: Count = 3
    timeout_s: Seconds = 1800  # of one process
    cpu_rows: Count = 16
    cpu_context: Count = 1088

    @model_validator(mode="after")
    def _rows_are_whole_sequences(self) -> Self:
        _multiples("rows", self.rows, self.groups, "check.groups")
        _multiples("cpu_rows", (self.cpu_rows,), self.groups, "check.groups")
        return self


class DramSettings(Settings):
    """Whether the hardware counts DRAM bytes: where ncu and a CUDA device are found, in any case, or not."""

    ncu: Mode = "auto"


class Target(Settings):
    """The time that a backend's kernel shall not exceed: ratio times the memory floor, plus so many µs."""

    ratio: Positive
    plus_us: Annotated[float, Number("a number of at least 0", 0)]


def _of_backends(targets: object) -> object:
    """Targets, one entry for each backend that has any; another name is refused."""
    if not isinstance(targets, Mapping):
        raise refuse(targets, "a mapping from backends to targets")
    for name in targets:
        if name in backends.broken():
            raise refuse(name, f"a backend that can be used: {backends.broken()[name].why}")
        if name not in backends.names():
            raise unknown_key(name, backends.names())
    return targets


class RooflineSettings(Settings):
    """The shapes on which every kernel is compared with the memory floor, and how often each is timed; Dv = D.

    The targets decide nothing that is measured; a backend without one has none to meet.
    """

    rows: Counts = (4, 64, 256, 1024)
    heads_per_group: Heads = (4, 8, 16)
    head_dim: Counts = (64, 128)
    sel_count: SelCounts = (8, 16)
    sel_block: Count = 64
    groups: Count = 4
    context: Count = 4096
    dtype: Dtype = "bfloat16"
    iters: Count = 25
    processes: Count = 3
    timeout_s: Seconds = 1800  # of one process
    targets: dict[str, Target] = Field(default_factory=dict, description="a target for each backend that has one")

    _are_of_backends = field_validator("targets", mode="before")(_of_backends)

    @model_validator(mode="after")
    def _rows_are_whole_sequences(self) -> Self:
        _multiples("rows", self.rows, self.groups, "roofline.groups")
        return self


GEOMETRY = (  # of a core on any shape
    "value_dim",
    "groups",
    "heads_per_group",
    "cmp_block",
    "cmp_stride",
    "sel_block",
    "sel_count",
    "window",
    "dtype",
)


class CoreSettings(Settings):
    """The grid of decode cores, the paper's geometry, and how they are checked (docs/core_check.md)."""

    batch: Counts = (1, 8, 32)
    contexts: Counts = (8192, 16384, 32768, 65536)
    max_tokens: Count = 2**21  # B x S
    head_dim: Counts = (128, 192)
    value_dim: Count = 128
    groups: Count = 4
    heads_per_group: Annotated[int, Whole(1, MAX_HEADS_PER_GROUP)] = 16
    cmp_block: Count = 32
    cmp_stride: Count = 16
    sel_block: Count = 64
    sel_count: Annotated[int, Whole(3, MAX_SEL_COUNT)] = 16
    window: Annotated[int, Whole(0)] = 512
    dtype: DtypeByDevice = Field(default_factory=DtypeByDevice)
    draws: Count = 2
    iters: Count = 15
    processes: Count = 3
    timeout_s: Seconds = 1800  # of one process
    cpu_batch: Count = 3
    cpu_context: Count = 1200

    @model_validator(mode="after")
    def _blocks_are_whole_strides(self) -> Self:
        _multiples("cmp_block", (self.cmp_block,), self.cmp_stride, "core.cmp_stride")
        _multiples("sel_block", (self.sel_block,), self.cmp_stride, "core.cmp_stride")
        return self

    @model_validator(mode="after")
    def _a_shape_is_left(self) -> Self:
        _takes_the_smallest(self.max_tokens, self.batch, self.contexts)
        return self


class CurveTarget(Target):
    """A target of the shapes with at most so many sequences and at least so many tokens in each."""

    max_batch: Count  # B
    min_context: Count  # S


class CoreCurveSettings(Settings):
    """The shapes over which a decode core's time is drawn; all that is not here is of the core check's geometry.

    The targets decide nothing that is measured; a backend without one has none to meet.
    """

    batch: Counts = (1, 2, 4, 8, 16, 32, 64, 128)
    contexts: Counts = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
    max_tokens: Count = 2**23  # B x S
    head_dim: Count = 128
    iters: Count = 5
    processes: Count = 3
    timeout_s: Seconds = 1800  # of one process
    targets: dict[str, tuple[CurveTarget, ...]] = Field(
        default_factory=dict, description="a list of targets for each backend that has some"
    )

    _are_of_backends = field_validator("targets", mode="before")(_of_backends)

    @model_validator(mode="after")
    def _a_shape_is_left(self) -> Self:
        _takes_the_smallest(self.max_tokens, self.batch, self.contexts)
        return self

    def cores(self, core: CoreSettings) -> CoreSettings:
        """These shapes and repetitions with the geometry of the core check."""
        return CoreSettings(
            **{name: getattr(core, name) for name in GEOMETRY},
            batch=self.batch,
            contexts=self.contexts,
            max_tokens=self.max_tokens,
            head_dim=(self.head_dim,),
            iters=self.iters,
            processes=self.processes,
            timeout_s=self.timeout_s,
        )


class InvestThresholds(Settings):
    """Of the selection's share of ms_total (docs/verdicts.md#the-two-gates)."""

    go: Share = 0.30
    no_go: Share = 0.25
    max_disagreement: Share = 0.03

    @model_validator(mode="after")
    def _no_go_lies_below_go(self) -> Self:
        if self.no_go > self.go:
            raise refuse(self.no_go, f"at most gates.invest.go = {self.go}", "no_go")
        return self


class AcceptThresholds(Settings):
    """Of a kernel's error and its speedup over packed SDPA."""

    mae: Positive = 1e-3
    speedup: Positive = 1.2
    error_ratio: Positive = 2.0


class CoreThresholds(Settings):
    """Of a decode core's error over that of the composed core, and of its speedup over dense attention."""

    speedup: Positive = 1.0
    error_ratio: Positive = 2.0


class RegressionThresholds(Settings):
    """Of a slowdown since the accepted run."""

    margin: Share = 0.05


class GateSettings(Settings):
    """The thresholds of the gates and of a regression."""

    confidence: Annotated[float, Number("a number between 0.5 and 1", 0.5, 1, open=True)] = 0.95
    invest: InvestThresholds = Field(default_factory=InvestThresholds)
    accept: AcceptThresholds = Field(default_factory=AcceptThresholds)
    core: CoreThresholds = Field(default_factory=CoreThresholds)
    regression: RegressionThresholds = Field(default_factory=RegressionThresholds)


def _takes_the_smallest(max_tokens: int, batch: tuple[int, ...], contexts: tuple[int, ...]) -> None:
    if max_tokens < (tokens := min(batch) * min(contexts)):
        raise refuse(max_tokens, f"at least {tokens}, the tokens of the smallest shape", "max_tokens")


def _multiples(key: str, values: tuple[int, ...], of: int, name: str) -> None:
    for value in values:
        if value % of:
            raise refuse(value, f"a multiple of {name} = {of}", key)
