"""What a call launches, by name: the proof that a part which is off launches nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch._C._autograd import DeviceType
from torch.autograd.profiler import profile  # torch.profiler's would import inductor, which takes seconds
from torch.utils._python_dispatch import TorchDispatchMode

# Operators that launch nothing, beside views: memory that is not written, and a number that goes with the arguments.
LAUNCHLESS = ("new_empty", "empty.memory_format", "empty_like", "scalar_tensor")


class _Operator(Protocol):
    """What is used of torch._ops.OpOverload, whose type parameters no operator's caller knows."""

    @property
    def is_view(self) -> bool: ...

    def name(self) -> str: ...

    def __call__(self, *args: object, **kwargs: object) -> object: ...


class _Operators(TorchDispatchMode):
    """Collects the names of the operators that do work."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and dynamo takes a second to import

    def __torch_dispatch__(
        self,
        func: _Operator,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = func.name().removeprefix("aten::")
        if not func.is_view and name not in LAUNCHLESS:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def launched(run: Callable[[], object], device: torch.device) -> list[str]:
    """Names in launch order: kernels on CUDA, as the profiler saw them; operators on a CPU."""
    if device.type != "cuda":
        with _Operators() as operators:
            run()
        return operators.names
    with profile(use_cpu=False, use_device="cuda", use_kineto=True, acc_events=True) as recorded:
        run()
        torch.cuda.synchronize(device)
    events = sorted(recorded.function_events, key=lambda event: event.time_range.start)
    return [event.name for event in events if event.device_type == DeviceType.CUDA]
