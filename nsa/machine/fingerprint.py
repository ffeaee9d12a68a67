"""The hardware and software that results belong to: when a fact changes, what was measured with it is stale.

Computed while the Snakefile is parsed, so it imports neither torch nor pandas and takes well under 100 ms.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import takewhile
from pathlib import Path

import pynvml

from nsa.machine import ncu, nvcc, nvml

VISIBLE = "CUDA_VISIBLE_DEVICES"
MIG = "MIG-"  # how the name of an instance of a card begins
UUIDS = ("GPU-", "MIG-")  # how the entries of a list of uuids begin
TOOLS = ("nvcc", "ncu", "triton")  # facts that concern who uses them; all others concern everything measured


@dataclass(frozen=True)
class Gpu:
    """One card; those of one name (model) are alike. Its MIG instances, if it has any, are all different."""

    name: str
    uuid: str
    instances: tuple[str, ...] = ()

    def __str__(self) -> str:
        return " ".join((self.name, self.uuid, *self.instances))


@dataclass(frozen=True)
class Gpus:
    """The NVIDIA driver and every GPU it shows, whether torch can use them or not.

    Attributes:
        devices: those that answer, in NVML's order.
        reason: why the driver could not be asked; None when it answered.
        lost: those that do not answer, with why; see nsa.machine.nvml.ask_each.
    """

    driver: str | None
    devices: tuple[Gpu, ...]
    reason: str | None
    lost: tuple[str, ...] = ()

    def visible(self, environ: Mapping[str, str]) -> tuple[Gpu, ...]:
        """Those that CUDA_VISIBLE_DEVICES shows, read as torch reads it (torch.cuda._parse_visible_devices).

        The first entry decides whether all are uuids, or their beginnings, or numbers among those that answer. An entry
        that names no card hides what follows it, and a card that is named twice hides all.
        """
        if VISIBLE not in environ:
            return self.devices
        uuids, listed = [gpu.uuid for gpu in self.devices], environ[VISIBLE]
        prefix = next((prefix for prefix in UUIDS if listed.startswith(prefix)), None)
        places: list[int] = []
        for entry in listed.split(","):
            if prefix is None:
                number = re.match(r"\s*[+]?(\d+)", entry)  # as C's strtoul: what follows the digits is ignored
                match = [int(number[1])] if number else []
            else:
                match = [place for place, uuid in enumerate(uuids) if entry[:4] == prefix and uuid.startswith(entry)]
            if len(match) != 1:
                break
            places += match
        if len(set(places)) < len(places):
            return ()
        return tuple(self.devices[place] for place in takewhile(lambda place: place < len(uuids), places))


def fingerprint(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What invalidates results: the machine, its GPUs and driver, and the versions that the timed code runs on."""
    gpus = read_gpus()
    compiler, profiler = nvcc.find(environ), ncu.find(environ)
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "driver": gpus.driver or f"none ({gpus.reason})",
        "gpus": "; ".join(map(str, (*gpus.devices, *gpus.lost))),
        "visible_gpus": ", ".join(_shown(gpus, environ)) or "none",
        "nvcc": compiler.identity if compiler else "none",
        "ncu": str(profiler.resolve()) if profiler else "none",  # its real folder has the version in its name
        "torch": torch_version(),
        "triton": package_version("triton") or "none",
    }


def _shown(gpus: Gpus, environ: Mapping[str, str]) -> list[str]:
    """What CUDA can see: models, since cards of one model are alike; the MIG instance that is named, as it is named.

    Of several MIG instances CUDA uses the first.
    """
    first = environ.get(VISIBLE, "").partition(",")[0].strip()
    if first.startswith(MIG):
        return [first]
    return sorted({" ".join((gpu.name, *gpu.instances[:1])) for gpu in gpus.visible(environ)})


def _gpu(handle: nvml.Handle) -> Gpu:
    def named(device: nvml.Handle) -> tuple[str, str]:
        return pynvml.nvmlDeviceGetName(device), pynvml.nvmlDeviceGetUUID(device)

    return Gpu(*named(handle), tuple(" ".join(named(part)) for part in nvml.instances(handle)))


def read_gpus() -> Gpus:
    """Ask NVML for the driver and its GPUs; without a driver that answers, the reason takes their place."""
    try:
        with nvml.started():
            driver = pynvml.nvmlSystemGetDriverVersion()
            devices, lost = nvml.ask_each(_gpu)
    except pynvml.NVMLError as error:
        return Gpus(None, (), str(error))
    return Gpus(driver, devices, None, lost)


def package_version(name: str) -> str | None:
    """The version of an installed package, without importing it; None when it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch_version() -> str:
    """torch.__version__ without importing torch.

    PyPI's wheels leave the local tag (+cu130, +cpu) out of their metadata; torch/version.py always has it.
    """
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "none"
    return _of_torch(r"__version__") or version


def cuda_expected(facts: Mapping[str, str]) -> bool:
    """Whether torch will have a CUDA device here, as far as can be told without importing it.

    Args:
        facts: the fingerprint.
    """
    built_for, supported = _of_torch(r"cuda: Optional\[str\]"), nvml.cuda_version()
    if facts["visible_gpus"] == "none" or built_for is None or supported is None:
        return False
    return supported[0] >= int(built_for.partition(".")[0])  # minor versions of CUDA are compatible


def _of_torch(name: str) -> str | None:
    """A text in torch/version.py; None where there is none."""
    try:
        source = Path(str(metadata.distribution("torch").locate_file("torch/version.py")))
    except metadata.PackageNotFoundError:
        return None
    match = re.search(rf"^{name} = '([^']+)'", source.read_text(), re.MULTILINE) if source.is_file() else None
    return match[1] if match else None


def cpu_model() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    cpuinfo = Path("/proc/cpuinfo")  # Linux only
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or platform.machine()
