"""Which GPU a job takes: like cards in parallel, one job on each, and never another model."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from standins import ON_CPU

from nsa.config import Flags
from nsa.errors import ConfigError
from nsa.machine import gpus as module
from nsa.machine.fingerprint import Gpu, Gpus
from nsa.machine.gpus import alike, one_gpu
from nsa.machine.host import Host, Machine
from nsa.records.facts import Device

H200 = (Gpu("NVIDIA H200", "GPU-a"), Gpu("NVIDIA H200", "GPU-b"))
A100 = Gpu("NVIDIA A100", "GPU-c")
HOST = Host(Device(kind="cuda", name="NVIDIA H200", uuid="GPU-a"), Machine((9, 0)), Flags())
MIG = replace(HOST, device=Device(kind="cuda", name="NVIDIA H200 MIG 1g.18gb", uuid="GPU-mig"))

HOLD = """
import os
from nsa.machine import gpus
from nsa.machine.host import Host, Machine
from nsa.config import Flags
from nsa.machine.fingerprint import Gpu, Gpus
from nsa.records.facts import Device
cards = tuple(Gpu("NVIDIA H200", uuid) for uuid in ("GPU-a", "GPU-b"))
gpus.read_gpus = lambda: Gpus("580", cards, None)
host = Host(Device(kind="cuda", name="NVIDIA H200", uuid="GPU-a"), Machine((9, 0)), Flags())
with gpus.one_gpu(host, lambda line: print(line, flush=True)) as card:
    print(card.device.uuid, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def two_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two H200 and an A100; locks apart from those of real runs."""
    monkeypatch.setenv("NSA_LOCKS", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(module, "read_gpus", lambda: Gpus("580", (*H200, A100), None))
    monkeypatch.setattr(module, "POLL_S", 0.05)


def job() -> subprocess.Popen[str]:
    """Another job that takes a card and holds it until a line is written to it."""
    command = [sys.executable, "-c", HOLD]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(other: subprocess.Popen[str]) -> str:
    assert other.stdout is not None
    return other.stdout.readline().strip()


def test_jobs_at_once_take_a_card_each_and_the_next_waits() -> None:
    """Two jobs hold two cards, and the third says once that it waits for one of them."""
    first, second = job(), job()
    assert {said(first), said(second)} == {"GPU-a GPU-a", "GPU-b GPU-b"}
    third = job()
    assert said(third) == "waiting for one of 2 GPUs: other jobs are timing on GPU-a, GPU-b"
    assert second.communicate("\n")[0] == ""
    assert said(third).split()[0] in ("GPU-a", "GPU-b")
    assert third.communicate("\n")[0] == ""  # told once
    assert first.communicate("\n")[0] == ""


def test_a_process_that_starts_inside_sees_the_card_alone() -> None:
    """CUDA_VISIBLE_DEVICES names the locked card in every process that starts meanwhile, and is as before after it."""
    show = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]
    other = job()
    assert said(other) == "GPU-a GPU-a"
    with one_gpu(HOST, print) as card:
        assert card.device.uuid == "GPU-b"
        assert subprocess.check_output(show, text=True).strip() == "GPU-b"
    other.communicate("\n")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_what_was_visible_is_restored_when_a_job_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES is as the user set it once a job has failed, and its card is free."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-b")
    with pytest.raises(KeyboardInterrupt), one_gpu(HOST, print) as card:
        assert card.device.uuid == "GPU-b"  # the only one that its user gave it
        raise KeyboardInterrupt
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-b"
    with one_gpu(HOST, lambda line: pytest.fail(line)):
        pass


def test_another_model_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card of another model than the environment's record is refused, even where no other is visible."""
    assert alike(HOST, Gpus("580", (A100, *H200), None), {}) == ("GPU-a", "GPU-b")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-c")
    with (
        pytest.raises(ConfigError, match=r"shows NVIDIA A100 GPU-c; expected a NVIDIA H200.*gpu_model"),
        one_gpu(HOST, print),
    ):
        pass


def test_numbers_on_a_machine_of_two_models_are_refused() -> None:
    """CUDA numbers the fastest first, NVML by the bus: where they may differ, numbers are refused."""
    gpus = Gpus("580", (A100, *H200), None)
    with pytest.raises(ConfigError, match="expected uuids, or CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        alike(HOST, gpus, {"CUDA_VISIBLE_DEVICES": "0,1"})
    by_bus = {"CUDA_VISIBLE_DEVICES": "0,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert alike(HOST, gpus, by_bus) == ("GPU-b",)


def test_a_lost_card_is_named_and_the_others_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that does not answer is said to be left out, and one of the others is held."""
    lost = ("GPU 0 does not answer (GPU is lost)",)
    monkeypatch.setattr(module, "read_gpus", lambda: Gpus("580", H200[1:], None, lost))
    lines: list[str] = []
    with one_gpu(HOST, lines.append) as card:
        assert card.device.uuid == "GPU-b"
    assert lines == ["GPU 0 does not answer (GPU is lost); it is left out"]
    with pytest.raises(ConfigError, match=r"which shows NVIDIA A100 GPU-c, GPU 0 does not answer \(GPU is lost\); exp"):
        alike(HOST, Gpus("580", (A100,), None, lost), {})


@pytest.mark.parametrize(
    ("host", "gpus"),
    [
        (ON_CPU, Gpus("580", H200, None)),
        (MIG, Gpus("580", H200, None)),
        (HOST, Gpus(None, (), "NVML Shared Library Not Found")),
        (HOST, Gpus("580", (), None, ("GPU 0 does not answer (Insufficient Permissions)",))),
    ],
)
def test_a_device_that_nvml_does_not_list_is_locked_as_it_is(
    host: Host, gpus: Gpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A CPU, a MIG instance and a GPU of which NVML says nothing run one job at a time."""
    monkeypatch.setattr(module, "read_gpus", lambda: gpus)
    with one_gpu(host, print) as same:
        assert same == host
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
        assert [path.name for path in tmp_path.glob("*.lock")] == [f"nsa-{host.device.uuid or 'cpu-timing'}.lock"]
