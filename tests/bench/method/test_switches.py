"""torch's switches for a whole process: what is read of them, and what is told of a change."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from nsa.bench.method import switches

CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "deterministic_algorithms": (
        lambda: torch.use_deterministic_algorithms(True),
        lambda: torch.use_deterministic_algorithms(False),
    ),
    "float32_matmul": (
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("highest"),
    ),
    "sdpa_backends": (
        lambda: torch.backends.cuda.enable_flash_sdp(False),
        lambda: torch.backends.cuda.enable_flash_sdp(True),
    ),
    "cudnn_benchmark": (
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
        lambda: setattr(torch.backends.cudnn, "benchmark", False),
    ),
    "default_dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        lambda: torch.set_default_dtype(torch.float32),
    ),
    "grad_enabled": (lambda: torch.set_grad_enabled(False), lambda: torch.set_grad_enabled(True)),
    "threads": (lambda: torch.set_num_threads(2), lambda: torch.set_num_threads(1)),
}


@pytest.fixture(params=CHANGES)
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A switch, which is given back."""
    yield request.param
    CHANGES[request.param][1]()


def test_a_switch_that_is_changed_is_told_alone(name: str) -> None:
    """With what it was and what it is."""
    CHANGES[name][1]()
    before = switches.read()
    assert switches.changed(before, switches.read()) == ()
    CHANGES[name][0]()
    (told,) = switches.changed(before, switches.read())
    assert told.startswith(f"{name}: ") and " before, " in told and told.endswith(" after")
