"""The fingerprint: cheap enough for Snakemake's parsing, and different whenever the machine is."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from nsa.machine import fingerprint as module
from nsa.machine.fingerprint import Gpu, fingerprint, package_version, read_gpus, torch_version


def fake_nvml(**changes: Any) -> SimpleNamespace:
    """NVML with one GPU."""
    functions = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetUUID": lambda handle: "GPU-4090",
        "nvmlSystemGetDriverVersion": lambda: "580.1",
    }
    return SimpleNamespace(NVMLError=pynvml.NVMLError, **{**functions, **changes})


def fail(code: int) -> Any:
    """A function that raises as NVML does."""

    def function(*_: object) -> None:
        raise pynvml.NVMLError(code)

    return function


def test_neither_torch_nor_pandas_is_imported() -> None:
    """What the Snakefile's parsing calls imports nothing that takes seconds."""
    code = "import sys; from nsa.machine.fingerprint import fingerprint; fingerprint(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nsa.machine.fingerprint" in loaded
    assert not {"torch", "pandas", "pyarrow"} & set(loaded)


def test_it_is_text_and_the_same_twice() -> None:
    """On one machine it is equal, text by text."""
    first = fingerprint({})
    assert first == fingerprint({})
    assert all(isinstance(value, str) for value in first.values())


def test_another_gpu_driver_or_visible_device_is_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fact of the GPU, of its driver and of what is visible is part of it."""
    seen = [fingerprint({})]
    for changes in (
        {},
        {"nvmlDeviceGetUUID": lambda handle: "GPU-other"},
        {"nvmlDeviceGetName": lambda handle: "NVIDIA H200"},
        {"nvmlSystemGetDriverVersion": lambda: "590.1"},
    ):
        monkeypatch.setattr(module, "pynvml", fake_nvml(**changes))
        seen.append(fingerprint({}))
    seen.append(fingerprint({"CUDA_VISIBLE_DEVICES": "1"}))
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])


def test_gpus_are_listed_by_name_and_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card is named by its model and its uuid."""
    monkeypatch.setattr(module, "pynvml", fake_nvml())
    assert read_gpus() == module.Gpus("580.1", (Gpu("NVIDIA GeForce RTX 4090", "GPU-4090"),), None)
    assert fingerprint({})["gpus"] == "NVIDIA GeForce RTX 4090 GPU-4090"


H200, OTHER_H200, A100 = Gpu("NVIDIA H200", "GPU-aa1"), Gpu("NVIDIA H200", "GPU-ab2"), Gpu("NVIDIA A100", "GPU-c")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, (H200, OTHER_H200, A100)),
        ("1", (OTHER_H200,)),
        ("2, 0", (A100, H200)),
        ("GPU-ab2,GPU-c", (OTHER_H200, A100)),
        ("GPU-ab", (OTHER_H200,)),
        ("GPU-a", ()),  # two cards begin like that
        ("0,7,1", (H200,)),
        ("", ()),
        ("-1", ()),
    ],
)
def test_visible_gpus_are_those_that_cuda_shows(listed: str | None, expected: tuple[Gpu, ...]) -> None:
    """CUDA_VISIBLE_DEVICES is read as CUDA reads it: numbers and beginnings of uuids, up to the first missing one."""
    environ = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    assert module.Gpus("580.1", (H200, OTHER_H200, A100), None).visible(environ) == expected


def test_two_visible_cards_of_one_model_are_one_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two like cards is visible changes nothing; another model does."""
    monkeypatch.setattr(module, "read_gpus", lambda: module.Gpus("580.1", (H200, OTHER_H200, A100), None))
    first, second, other = (fingerprint({"CUDA_VISIBLE_DEVICES": number}) for number in "012")
    assert first == second
    assert first != other


def test_no_driver_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU has a fingerprint, which says why it has no driver."""
    monkeypatch.setattr(module, "pynvml", fake_nvml(nvmlInit=fail(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)))
    assert read_gpus() == module.Gpus(None, (), "NVML Shared Library Not Found")
    assert fingerprint({})["driver"] == "none (NVML Shared Library Not Found)"


def test_a_lost_gpu_is_a_reason_and_nvml_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU off the bus, whose NVML calls fail after a good start, is a reason like a missing driver."""
    closed = []
    lost = fake_nvml(nvmlDeviceGetName=fail(pynvml.NVML_ERROR_GPU_IS_LOST), nvmlShutdown=lambda: closed.append(True))
    monkeypatch.setattr(module, "pynvml", lost)
    assert read_gpus() == module.Gpus(None, (), "GPU is lost")
    assert closed == [True]


def test_torchs_version_is_the_one_torch_states() -> None:
    """The local tag, which tells a CPU build from a CUDA build, is part of the version."""
    import torch

    assert torch_version() == str(torch.__version__)


def test_an_absent_package_has_no_version() -> None:
    """A package that is not installed, such as triton outside Linux, is None and no error."""
    assert package_version("pytest") == metadata.version("pytest")
    assert package_version("no-such-package-of-ours") is None
