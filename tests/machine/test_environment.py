"""The probe: the guide's sanity check on every kind of machine, and a record's provenance."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest
from standins import WITH_GPU

from nsa.machine import environment
from nsa.machine.environment import describe, probe, provenance
from nsa.machine.fingerprint import Gpu, Gpus
from nsa.machine.no_gpu import explain
from nsa.machine.nvcc import Nvcc
from nsa.records.facts import Environment

RTX_4090 = SimpleNamespace(
    name="NVIDIA GeForce RTX 4090",
    major=8,
    minor=9,
    uuid="b1c2",  # torch's form, without NVML's prefix
    total_memory=24 << 30,
    multi_processor_count=128,
    L2_cache_size=72 << 20,
)
DRIVER = Gpus("580.1", (Gpu("NVIDIA GeForce RTX 4090", "GPU-b1c2"),), None)
NO_DRIVER = Gpus(None, (), "NVML Shared Library Not Found")
CLOCKS = {"sm_clock_default_mhz": 2235, "sm_clock_max_mhz": 3105, "memory_clock_max_mhz": 10501}


class FakeSampler:
    """A sampler that knows the one device GPU-b1c2."""

    def __init__(self, uuid: str | None) -> None:
        self.known = uuid == "GPU-b1c2"
        self.reason = None if self.known else f"unknown {uuid}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def clocks(self) -> dict[str, int | None]:
        return {key: value if self.known else None for key, value in CLOCKS.items()}


def fake_torch(version: str, cuda: str | None, device: SimpleNamespace | None, fault: str = "") -> SimpleNamespace:
    """As much of torch as the probe asks: a build for this CUDA, and the device that it can use."""

    def current_device() -> int:
        raise RuntimeError(fault)

    return SimpleNamespace(
        __version__=version,
        version=SimpleNamespace(cuda=cuda),
        cuda=SimpleNamespace(
            is_available=lambda: device is not None,
            get_device_properties=lambda index: device,
            device_count=lambda: 1,
            current_device=current_device,
        ),
    )


def probe_with(monkeypatch: pytest.MonkeyPatch, torch: SimpleNamespace, gpus: Gpus) -> Environment:
    """Probe a machine with this torch and this driver; the result survives its way through JSON."""
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(environment, "read_gpus", lambda: gpus)
    monkeypatch.setattr(environment, "Sampler", FakeSampler)
    found = probe({})
    assert Environment.model_validate_json(found.model_dump_json()) == found
    return found


def test_this_machine_can_be_probed() -> None:
    """On whatever machine the tests run, the guide's five facts come first and agree with torch's own answers."""
    import torch

    found = probe(os.environ)
    assert list(Environment.model_fields)[:5] == ["cuda", "device", "capability", "torch", "cuda_version"]
    assert found.cuda is torch.cuda.is_available()
    assert found.torch == str(torch.__version__)
    assert found.cuda_version == torch.version.cuda
    assert (found.note is None) is found.cuda
    assert found.cpu
    assert found.python == ".".join(map(str, sys.version_info[:3]))


def test_a_gpu_is_described_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """The uuid has NVML's prefix: it names the lock and finds the clocks."""
    found = probe_with(monkeypatch, fake_torch("2.13.0+cu130", "13.0", RTX_4090), DRIVER)
    expected = {
        "cuda": True,
        "device": "NVIDIA GeForce RTX 4090",
        "capability": (8, 9),
        "torch": "2.13.0+cu130",
        "cuda_version": "13.0",
        "note": None,
        "driver": "580.1",
        "nvml_error": None,
        "gpu_uuid": "GPU-b1c2",
        "gpu_count": 1,
        "memory_bytes": 25_769_803_776,
        "sm_count": 128,
        "l2_bytes": 75_497_472,
        **CLOCKS,
    }
    assert found.model_dump(include=set(expected)) == expected


def test_a_gpu_without_nvml_keeps_what_torch_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CUDA works and NVML does not, the gap is explained and the device is not lost."""
    device = SimpleNamespace(**{**vars(RTX_4090), "uuid": "other"})
    found = probe_with(monkeypatch, fake_torch("2.13.0+cu130", "13.0", device), DRIVER)
    assert found.cuda is True
    assert found.sm_clock_max_mhz is None
    assert found.nvml_error == "unknown GPU-other"


@pytest.mark.parametrize(
    ("torch", "gpus", "note", "fix"),
    [
        (
            fake_torch("2.13.0+cpu", None, None),
            DRIVER,
            "torch 2.13.0+cpu has no CUDA support",
            "install a torch with CUDA",
        ),
        (
            fake_torch("2.13.0+cpu", None, None),
            NO_DRIVER,
            "no NVIDIA driver answers (NVML Shared Library Not Found); torch 2.13.0+cpu has no CUDA support",
            "run on a machine with an NVIDIA GPU",
        ),
        (
            fake_torch("2.13.0+cu130", "13.0", None),
            NO_DRIVER,
            "no NVIDIA driver answers (NVML Shared Library Not Found)",
            "run on a machine with an NVIDIA GPU",
        ),
        (
            fake_torch("2.13.0+cu130", "13.0", None, "The NVIDIA driver on your system is too old\n(found 12020)."),
            DRIVER,
            "torch finds no usable GPU (The NVIDIA driver on your system is too old (found 12020).)",
            "update the NVIDIA driver (580.1) to CUDA 13.0",
        ),
        (
            fake_torch("2.13.0+cu130", "13.0", None, "No CUDA GPUs are available"),
            Gpus("580.1", (), None, ("GPU 0 does not answer (GPU is lost)",)),
            "GPU 0 does not answer (GPU is lost)",
            "see what `nvidia-smi` says: a GPU that does not answer needs a reset",
        ),
        (
            fake_torch("2.13.0+cu130", "13.0", None, "No CUDA GPUs are available"),
            DRIVER,
            "torch finds no usable GPU (No CUDA GPUs are available)",
            "see what `nvidia-smi` says, mend it",
        ),
    ],
)
def test_no_cuda_is_explained(
    monkeypatch: pytest.MonkeyPatch, torch: SimpleNamespace, gpus: Gpus, note: str, fix: str
) -> None:
    """The note tells the wrong build of torch from a driver that is missing or too old, and the fix mends that."""
    found = probe_with(monkeypatch, torch, gpus)
    assert found.cuda is False
    assert found.device is found.capability is found.gpu_uuid is None
    assert found.gpu_count == 0
    assert found.note == note and str(found.fix).startswith(fix)
    assert found.nvml_error == gpus.reason
    shown = "the driver shows NVIDIA GeForce RTX 4090, which torch cannot use: "
    assert found.unused_gpu == (f"{shown}{note}" if gpus.devices else None)


def test_a_gpu_that_is_hidden_is_told_from_one_that_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES that names no GPU is the first thing to look at."""
    monkeypatch.setitem(sys.modules, "torch", fake_torch("2.13.0+cu130", "13.0", None, "No CUDA GPUs are available"))
    assert explain(DRIVER, {"CUDA_VISIBLE_DEVICES": "7"}).fix.startswith("unset CUDA_VISIBLE_DEVICES=7, which hides")


def test_a_device_that_cannot_be_opened_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the driver counts a GPU and CUDA cannot start on it, the note has CUDA's words."""
    torch = fake_torch("2.13.0+cu130", "13.0", RTX_4090, "CUDA error: unknown error")
    torch.cuda.get_device_properties = lambda index: torch.cuda.current_device()
    found = probe_with(monkeypatch, torch, DRIVER)
    assert (found.cuda, found.device, found.gpu_count) == (False, None, 0)
    assert found.note == "torch finds no usable GPU (CUDA error: unknown error)"


def test_the_description_has_every_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text has one line a fact, in their order."""
    found = probe_with(monkeypatch, fake_torch("2.13.0+cpu", None, None), DRIVER)
    lines = describe(found).splitlines()
    assert [line.split()[0] for line in lines] == list(Environment.model_fields)
    assert lines[0].split() == ["cuda", "False"]
    assert lines[1].split() == ["device", "-"]


def test_provenance_carries_the_machine_and_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record says by itself where and when, with the compiler and the Triton of now."""
    monkeypatch.setattr(environment.nvcc, "find", lambda environ: Nvcc(Path("/cuda/nvcc"), "13.1.2"))
    monkeypatch.setattr(environment, "package_version", lambda name: "3.9")
    found = provenance(WITH_GPU, tmp_path)
    tools = {"nvcc": "13.1.2", "nvcc_path": "/cuda/nvcc", "triton": "3.9"}
    assert found.environment == WITH_GPU.model_copy(update=tools)
    assert found.git_commit is None and "not a git repository" in str(found.git_reason)
    age = datetime.now(UTC) - datetime.fromisoformat(found.utc_time)
    assert timedelta(seconds=-1) < age < timedelta(minutes=1)
