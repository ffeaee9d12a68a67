"""The program that ncu profiles: one call of a kernel on each shape, warmed up outside the profiled ranges."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

from nsa.bench.dram.job import Job
from nsa.bench.method.inputs import full_case
from nsa.kernels import registry

SEED = 0
WARMUP = 3  # compiles, selects algorithms and fills the allocator


def main(path: Path) -> None:
    """Run the pickled job: the kernel once a shape between cudaProfilerStart and cudaProfilerStop, then the marker."""
    job: Job = pickle.loads(path.read_bytes())
    device = torch.device(job.host.device.kind)
    kernel = registry.load(job.backend, job.host.machine, job.host.flags).selection_kernel
    for shape in job.shapes:
        call = full_case(shape, SEED, device)
        for _ in range(WARMUP):
            kernel(*call)
        torch.cuda.synchronize(device)
        torch.cuda.profiler.start()
        kernel(*call)
        torch.cuda._sleep(1)  # its name separates the shapes in the profile
        torch.cuda.synchronize(device)
        torch.cuda.profiler.stop()
        del call  # gigabytes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
