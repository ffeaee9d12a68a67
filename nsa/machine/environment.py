"""The machine under test: the guide's sanity check, with what else a record must say about where it was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.machine import nvcc, repository
from nsa.machine.fingerprint import cpu_model, package_version, read_gpus
from nsa.machine.no_gpu import explain
from nsa.machine.nvml import Sampler
from nsa.records.facts import Environment, Provenance

if TYPE_CHECKING:
    from torch.cuda import _CudaDeviceProperties

ROOT = Path(__file__).parents[2]


def probe(environ: Mapping[str, str] = os.environ) -> Environment:
    """What the machine is and what torch can use of it (docs/guide.md); what it cannot tell is null.

    The first five keys are the guide's. `note` and `fix` say why there is no CUDA device,
    `nvml_error` why NVML's part is null.
    """
    import torch  # here: describing a recorded environment needs no torch

    gpus = read_gpus()
    device = _first_device()
    cuda = device is not None
    uuid = f"GPU-{device.uuid}" if device else None  # torch leaves out NVML's prefix
    missing = None if cuda else explain(gpus, environ)
    tools = _tools(environ)
    with Sampler(uuid) as sampler:
        clocks = sampler.clocks()
    return Environment(
        cuda=cuda,
        device=device.name if device else None,
        capability=(device.major, device.minor) if device else None,
        torch=str(torch.__version__),
        cuda_version=torch.version.cuda,
        note=missing.reason if missing else None,
        fix=missing.fix if missing else None,
        shown_gpus=tuple(gpu.name for gpu in gpus.devices),
        driver=gpus.driver,
        nvml_error=gpus.reason or (sampler.reason if device else None),
        gpu_uuid=uuid,
        gpu_count=torch.cuda.device_count() if cuda else 0,
        memory_bytes=device.total_memory if device else None,
        sm_count=device.multi_processor_count if device else None,
        l2_bytes=device.L2_cache_size if device else None,
        **clocks,
        nvcc=tools["nvcc"],
        nvcc_path=tools["nvcc_path"],
        triton=tools["triton"],
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=cpu_model(),
        cpu_cores=os.cpu_count(),
    )


def describe(environment: Environment) -> str:
    """A probed environment as text, one line per fact; what the machine could not tell is a dash."""
    facts = environment.model_dump()
    width = max(map(len, facts))
    return "\n".join(f"{key:<{width}}  {'-' if value is None else value}" for key, value in facts.items())


def provenance(environment: Environment, root: Path = ROOT, environ: Mapping[str, str] = os.environ) -> Provenance:
    """What a record's metadata says of its origin: the code (git), the time (UTC) and the probed environment.

    git_commit and git_dirty are null, with git_reason, where there is no git, no repository of ours or no commit.
    Another compiler or Triton is no reason to probe the machine again (nsa.machine.fingerprint.TOOLS), so they are
    asked anew.
    """
    commit, dirty, reason = repository.commit(root, environ)
    return Provenance(
        git_commit=commit,
        git_dirty=dirty,
        git_reason=reason,
        utc_time=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=environment.model_copy(update=_tools(environ)),
    )


def _tools(environ: Mapping[str, str]) -> dict[str, str | None]:
    """The compiler and Triton, as facts of an Environment."""
    compiler = nvcc.find(environ)
    return {
        "nvcc": compiler.version if compiler else None,
        "nvcc_path": str(compiler.path) if compiler else None,
        "triton": package_version("triton"),
    }


def _first_device() -> _CudaDeviceProperties | None:
    """What torch says of the device that it would use; None where it can use none, as where CUDA cannot start."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        return torch.cuda.get_device_properties(0)
    except RuntimeError:  # the driver counts GPUs of which none can be opened; nsa.machine.no_gpu has the words
        return None
