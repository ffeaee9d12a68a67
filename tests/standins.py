"""Stand-ins for a machine with a GPU, so that what runs there is tested on a CPU, in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import torch

from nsa.backends import resolve
from nsa.bench import runner
from nsa.bench.method.timing import Captured
from nsa.bench.workers import Turn
from nsa.config import Flags
from nsa.machine.host import Host, Machine
from nsa.records import files
from nsa.records.facts import Device, Digests, Environment, Provenance
from nsa.records.stamp import Sources, Stamp, digest

CPU = torch.device("cpu")
ON_CPU = Host(Device(kind="cpu", name="a CPU", uuid=None), Machine(None), Flags())
ON_CUDA = Host(Device(kind="cuda", name="NVIDIA H200", uuid="GPU-of-a-test"), Machine((9, 0)), Flags())

ENVIRONMENT = Environment(
    cuda=False,
    device=None,
    capability=None,
    torch="2.13.0+cpu",
    cuda_version=None,
    note="torch 2.13.0+cpu has no CUDA support",
    driver=None,
    nvml_error="NVML Shared Library Not Found",
    gpu_uuid=None,
    gpu_count=0,
    memory_bytes=None,
    sm_count=None,
    l2_bytes=None,
    sm_clock_default_mhz=None,
    sm_clock_max_mhz=None,
    memory_clock_max_mhz=None,
    nvcc=None,
    nvcc_path=None,
    triton=None,
    python="3.12.0",
    platform="Linux",
    cpu="a CPU",
    cpu_cores=2,
)
WITH_GPU = ENVIRONMENT.model_copy(
    update={"cuda": True, "device": "NVIDIA H200", "gpu_uuid": "GPU-of-a-test", "capability": (9, 0), "note": None}
)
PROVENANCE = Provenance(
    git_commit=None, git_dirty=None, git_reason="of a test", utc_time="2026-01-01T00:00:00", environment=ENVIRONMENT
)
DIGESTS = Digests(sources=digest({}), settings="c", machine="m")


def stage_inputs(
    folder: Path, stage: str, settings: Mapping[str, Any], environment: Environment = ENVIRONMENT
) -> tuple[Path, Path]:
    """The stamp, whose digests are DIGESTS, and the environment's record that a stage's command reads."""
    stamp = Stamp(
        stage=stage,
        sources=Sources(digest=DIGESTS.sources, files=()),
        settings={"device": "auto", "flags": {}, **json.loads(json.dumps(settings))},
        settings_digest="c",
        machine={},
        machine_digest="m",
    )
    files.write_model(folder / "stamp.json", stamp)
    files.write_model(folder / "environment.json", environment)
    return folder / "stamp.json", folder / "environment.json"


class Replay:
    """A captured graph without a GPU: it runs the call again, into the same tensor."""

    def __init__(self, run: Callable[[], torch.Tensor]) -> None:
        self.run, self.output = run, run()

    def replay(self) -> None:
        self.output.copy_(self.run())


class Timer:
    """A CudaTimer on a CPU whose times are 1, 2, 3, ... ns, in the order in which they were taken."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = CPU
        self.calls = 0
        self.captures = 0
        self.settled = 0

    def settle(self) -> None:
        self.settled += 1

    def nudge(self) -> None: ...

    def stream(self) -> torch.Tensor:
        return torch.zeros(1)

    def capture(self, prepare: Callable[[], None], run: Callable[[], torch.Tensor], warmup: int) -> Captured:
        self.captures += 1
        prepare()
        graph: Any = Replay(run)
        return Captured(graph, graph.output)

    def capture_empty(self, warmup: int) -> Captured:
        return self.capture(lambda: None, partial(torch.zeros, 1), warmup)

    def time(
        self,
        restore: Callable[[], None],
        replay: Callable[[], None],
        cold: bool,
        repetitions: int,
        after: Callable[[], None] = lambda: None,
        touch: Callable[[], None] = lambda: None,
    ) -> list[int]:
        values = []
        for _ in range(repetitions):
            if not cold:
                restore()
                replay()
            restore()
            if cold:
                touch()
            replay()
            after()
            self.calls += 1
            values.append(self.calls)
        return values


class Sampler:
    """An NVML sampler whose clock falls by 10 MHz a reading, on a card where process 7 runs beside ours."""

    def __init__(self, uuid: str | None = None) -> None:
        self.readings = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sample(self) -> dict[str, int | float | None]:
        self.readings += 1
        return {
            "sm_clock_mhz": 1990 - 10 * self.readings,
            "temperature_c": 60 + self.readings,
            "power_w": 300.0,
            "throttle_bits": 1 << self.readings,
        }

    def sm_clock(self) -> None:
        """What its clock is at the start of a block is not told."""

    def sm_clock_limit(self) -> None: ...

    def other_processes(self, ours: Iterable[int] = ()) -> list[int]:
        return sorted({7} - set(ours))


def in_this_process(monkeypatch: pytest.MonkeyPatch, work: Callable[[Any, Turn], Any] | None = None) -> list[Any]:
    """Let replicates run here, one after the other, on whatever card the host names; returns their jobs as they come.

    Args:
        monkeypatch: of the test.
        work: what each does in the place of the stage's own work.
    """
    jobs: list[Any] = []

    def together(line: str, todo: Sequence[Any], *_: object) -> list[Any]:
        jobs.extend(todo)
        return [(work or resolve(line))(job, Turn()) for job in todo]

    monkeypatch.setattr(runner, "run_together", together)
    monkeypatch.setattr(runner, "one_gpu", lambda host, say: nullcontext(host))
    return jobs
