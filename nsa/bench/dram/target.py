"""The program that ncu profiles: one call of a backend's kernel, warmed up outside of the profiled range."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import torch

from nsa.bench.dram.stage import Job
from nsa.bench.method.inputs import full_case
from nsa.kernels import registry

SEED = 0
WARMUP = 3  # compiles, selects algorithms and fills the allocator


def main(path: Path) -> None:
    """Run the pickled job: the kernel once between cudaProfilerStart and cudaProfilerStop."""
    job: Job = pickle.loads(path.read_bytes())
    device = torch.device(job.host.device)
    kernel = registry.load(job.backend, job.host.machine, job.host.flags).select_attention
    call = full_case(job.shape, SEED, device)
    for _ in range(WARMUP):
        kernel(*call)
    torch.cuda.synchronize(device)
    torch.cuda.profiler.start()
    kernel(*call)
    torch.cuda.synchronize(device)
    torch.cuda.profiler.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
