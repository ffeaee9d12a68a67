"""The fingerprint: cheap enough for Snakemake's parsing, and different whenever the machine is."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import Any

import pynvml
import pytest

from nsa.machine import fingerprint as module
from nsa.machine.fingerprint import (
    Gpu,
    _of_torch,
    cuda_expected,
    fingerprint,
    package_version,
    read_gpus,
    torch_version,
)


def use_nvml(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """NVML with one GPU, but for some functions."""
    functions: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: "NVIDIA GeForce RTX 4090",
        "nvmlDeviceGetUUID": lambda handle: "GPU-4090",
        "nvmlSystemGetDriverVersion": lambda: "580.1",
    }
    for name, function in {**functions, **changes}.items():
        monkeypatch.setattr(pynvml, name, function)


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
        use_nvml(monkeypatch, **changes)
        seen.append(fingerprint({}))
    seen.append(fingerprint({"CUDA_VISIBLE_DEVICES": "1"}))
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])


def test_gpus_are_listed_by_name_and_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card is named by its model and its uuid."""
    use_nvml(monkeypatch)
    assert read_gpus() == module.Gpus("580.1", (Gpu("NVIDIA GeForce RTX 4090", "GPU-4090"),), None)
    assert fingerprint({})["gpus"] == "NVIDIA GeForce RTX 4090 GPU-4090"


H200, OTHER_H200, A100 = Gpu("NVIDIA H200", "GPU-aa1"), Gpu("NVIDIA H200", "GPU-ab2"), Gpu("NVIDIA A100", "GPU-c")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (None, (H200, OTHER_H200, A100)),
        ("1", (OTHER_H200,)),
        ("2, 0", (A100, H200)),
        ("0,0", ()),  # named twice: torch sees none
        ("0,1,0", ()),
        ("0,7,7", ()),
        ("GPU-c,GPU-c", ()),
        ("GPU-ab,GPU-ab2", ()),
        ("0,GPU-c", (H200,)),  # numbers, and what is none ends them
        ("GPU-c,0", (A100,)),
        ("1st,2nd", (OTHER_H200, A100)),
        ("0,-1,1", (H200,)),
        ("0,,1", (H200,)),
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


def use_mig(monkeypatch: pytest.MonkeyPatch, *sizes: str) -> None:
    """NVML with one card of seven places, some of which have instances of these sizes."""
    card = "NVIDIA H200"

    def instance(handle: object, place: int) -> str:
        return f"{card} MIG {sizes[place]}" if place < len(sizes) else fail(pynvml.NVML_ERROR_NOT_FOUND)()

    use_nvml(
        monkeypatch,
        nvmlDeviceGetName=lambda handle: card if handle == 0 else handle,
        nvmlDeviceGetUUID=lambda handle: "GPU-a" if handle == 0 else f"MIG-{handle.split()[-1]}",
        nvmlDeviceGetMigMode=lambda handle: [1, 1],
        nvmlDeviceGetMaxMigDeviceCount=lambda handle: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=instance,
    )


def test_each_mig_instance_is_a_machine_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One instance, another one, a part of a name, an older name, several, the first and none: all differ."""
    use_mig(monkeypatch, "1g.18gb", "2g.35gb")
    listed = ("MIG-1g.18gb", "MIG-2g.35gb", "MIG-2g", "MIG-GPU-a/1/0", "GPU-b", "0")
    seen = [fingerprint({"CUDA_VISIBLE_DEVICES": value}) for value in listed]
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])
    assert seen[0]["visible_gpus"] == "MIG-1g.18gb" and seen[4]["visible_gpus"] == "none"
    assert fingerprint({}) == seen[5] and fingerprint({"CUDA_VISIBLE_DEVICES": ""}) == seen[4]
    assert fingerprint({"CUDA_VISIBLE_DEVICES": " MIG-2g.35gb,MIG-1g.18gb"}) == seen[1]  # CUDA uses the first


def test_another_partition_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that is parted otherwise, or whole, is another machine although its name and uuid are the same."""
    seen = []
    for sizes in (("1g.18gb",), ("1g.18gb", "2g.35gb"), ("7g.141gb",), ()):
        use_mig(monkeypatch, *sizes)
        seen.append(fingerprint({})["gpus"])
    assert seen[0] == "NVIDIA H200 GPU-a NVIDIA H200 MIG 1g.18gb MIG-1g.18gb"
    assert len(set(seen)) == 4


def test_no_driver_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU has a fingerprint, which says why it has no driver."""
    use_nvml(monkeypatch, nvmlInit=fail(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    assert read_gpus() == module.Gpus(None, (), "NVML Shared Library Not Found")
    assert fingerprint({})["driver"] == "none (NVML Shared Library Not Found)"


@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetName"])
def test_a_lost_gpu_is_named_and_the_others_are_listed(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """One of three GPUs that answers nothing, or no question, is part of the fingerprint and hides no other."""

    def answer(index: int) -> Any:
        return fail(pynvml.NVML_ERROR_GPU_IS_LOST)() if index == 1 else index if "Handle" in call else f"H{index}"

    uuid = "GPU-{}".format
    use_nvml(monkeypatch, nvmlDeviceGetCount=lambda: 3, nvmlDeviceGetUUID=uuid, **{call: answer})
    found = read_gpus()
    assert found.driver == "580.1" and found.reason is None
    assert [gpu.uuid for gpu in found.devices] == ["GPU-0", "GPU-2"]
    assert found.lost == ("GPU 1 does not answer (GPU is lost)",)
    assert fingerprint({})["gpus"].endswith(" GPU-2; GPU 1 does not answer (GPU is lost)")
    assert [gpu.uuid for gpu in found.visible({"CUDA_VISIBLE_DEVICES": "1"})] == ["GPU-2"]


def test_a_driver_that_fails_after_its_start_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that cannot say which GPUs there are is a reason like a missing one, and NVML is closed."""
    closed: list[bool] = []
    failing = fail(pynvml.NVML_ERROR_UNKNOWN)
    use_nvml(monkeypatch, nvmlDeviceGetCount=failing, nvmlShutdown=lambda: closed.append(True))
    assert read_gpus() == module.Gpus(None, (), "Unknown Error")
    assert closed == [True, True]


def test_torchs_version_is_the_one_torch_states() -> None:
    """The local tag, which tells a CPU build from a CUDA build, is part of the version."""
    import torch

    assert torch_version() == str(torch.__version__)


@pytest.mark.parametrize(
    ("gpus", "torch_cuda", "driver", "expected"),
    [
        ("NVIDIA GeForce RTX 4090", "13.0", 13000, True),
        ("NVIDIA GeForce RTX 4090", "12.8", 13000, True),
        ("NVIDIA GeForce RTX 4090", "13.2", 13000, True),  # minor versions are compatible
        ("NVIDIA GeForce RTX 4090", "13.0", 12080, False),  # the driver is too old
        ("NVIDIA GeForce RTX 4090", None, 13000, False),  # a torch for the CPU
        ("none", "13.0", 13000, False),  # nothing is visible
    ],
)
def test_cuda_is_expected_where_gpu_driver_and_torch_fit(
    gpus: str, torch_cuda: str | None, driver: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which contexts are measured is known before torch is imported."""
    use_nvml(monkeypatch, nvmlSystemGetCudaDriverVersion=lambda: driver)
    monkeypatch.setattr("nsa.machine.fingerprint._of_torch", lambda name: torch_cuda)
    assert cuda_expected({"visible_gpus": gpus}) is expected


def test_this_torch_says_what_it_is_built_for() -> None:
    """torch/version.py is read as torch itself has it."""
    import torch

    assert _of_torch(r"cuda: Optional\[str\]") == torch.version.cuda


def test_an_absent_package_has_no_version() -> None:
    """A package that is not installed, such as triton outside Linux, is None and no error."""
    assert package_version("pytest") == metadata.version("pytest")
    assert package_version("no-such-package-of-ours") is None
