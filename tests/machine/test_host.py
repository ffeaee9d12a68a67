"""Where a stage runs: what was asked for against what the environment's record says is there."""

from __future__ import annotations

import pytest
from standins import ENVIRONMENT, ON_CUDA, WITH_GPU

from nsa.config import Flags
from nsa.errors import ConfigError
from nsa.machine.host import Host, Machine
from nsa.records.facts import Device, Environment

CPU = Device(kind="cpu", name="a CPU", uuid=None)
UNUSED = ENVIRONMENT.model_copy(update={"shown_gpus": ("RTX", "RTX"), "fix": "install one"})
GPU = Device(kind="cuda", name="NVIDIA H200", uuid="GPU-of-a-test")


@pytest.mark.parametrize(
    ("asked", "environment", "device", "capability", "words"),
    [
        ("auto", ENVIRONMENT, CPU, None, ()),
        ("auto", WITH_GPU, GPU, (9, 0), ()),
        ("cuda", WITH_GPU, GPU, (9, 0), ()),
        # asked for the CPU: the GPU is not there
        ("cpu", WITH_GPU, CPU, None, ("a run on the CPU was asked for (device: cpu)", "set device to auto")),
        ("auto", UNUSED, CPU, None, (f"the driver shows RTX, which torch cannot use: {UNUSED.note}", "install one")),
    ],
)
def test_the_device_is_the_one_that_was_asked_for(
    asked: str, environment: Environment, device: Device, capability: tuple[int, int] | None, words: tuple[str, ...]
) -> None:
    """auto takes the GPU where there is one, and a run on a CPU has no compute capability."""
    made = {"cuda": {"status": "ok"}}
    assert Host.of(asked, Flags(), environment, made) == Host(device, Machine(capability, made, *words), Flags())


def test_cuda_is_never_replaced() -> None:
    """CUDA that was asked for and is not there is an error that says so."""
    with pytest.raises(
        ConfigError, match=r"device: got 'cuda', expected 'cpu' or 'auto': torch .* has no CUDA support"
    ):
        Host.of("cuda", Flags(), ENVIRONMENT, {})


def test_another_card_of_the_model_is_the_same_host() -> None:
    """Only the uuid changes."""
    other = ON_CUDA.on_card("GPU-other")
    assert other.device.uuid == "GPU-other" and other.on_card("GPU-of-a-test") == ON_CUDA
