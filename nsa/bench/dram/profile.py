"""One call under ncu: the DRAM bytes that the hardware counted for each of its kernels.

ncu flushes and invalidates every cache before each kernel (`--cache-control all`). A kernel therefore reads from DRAM
even what the one before it has just written, and what it leaves in L2 to be written later is not counted.
"""

from __future__ import annotations

import csv
import os
import pickle
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import dropwhile
from pathlib import Path
from tempfile import TemporaryDirectory

from nsa.bench.dram.job import MARKER, Job
from nsa.errors import ProfilerFailed
from nsa.machine.process import die_with_parent
from nsa.records.dram import KernelBytes

TARGET = "nsa.bench.dram.target"
METRICS = ("dram__bytes_read.sum", "dram__bytes_write.sum")
NAME = "Kernel Name"
# The clocks are left alone, and only what the target encloses in cudaProfilerStart and Stop is profiled.
MEASURE = ("--clock-control", "none", "--cache-control", "all", "--profile-from-start", "off")
PRINT = ("--csv", "--page", "raw", "--print-units", "base", "--print-kernel-base", "function")
TIMEOUT_S = 600  # for one call; it takes seconds
PERMISSION = "ERR_NVGPUCTRPERM"
ALLOW = (
    "let users read the GPU's performance counters (run as root, or load the driver with "
    "NVreg_RestrictProfilingToAdminUsers=0; see https://developer.nvidia.com/ERR_NVGPUCTRPERM), "
    "or set dram.ncu to skip"
)
INVESTIGATE = "see the stage's log for all that ncu said, or set dram.ncu to skip"


def profile(program: Path, job: Job, say: Callable[[str], None]) -> list[tuple[KernelBytes, ...]]:
    """Run a job under ncu: for each of its shapes the bytes of each kernel, in launch order.

    Raises:
        ProfilerFailed: ncu could not be run, failed, took too long, or counted nothing that can be read.
    """
    with TemporaryDirectory(prefix="nsa-dram-") as folder:
        path = Path(folder) / "job"
        path.write_bytes(pickle.dumps(job))
        target = (sys.executable, "-m", TARGET, str(path))
        command = [str(program), *MEASURE, *PRINT, "--metrics", ",".join(METRICS), *target]
        say(shlex.join(command))
        try:
            answer = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        except OSError as error:
            raise ProfilerFailed(f"{program} cannot be run ({error.strerror})", INVESTIGATE) from error
        except subprocess.TimeoutExpired as error:
            raise ProfilerFailed(f"ncu did not end within {TIMEOUT_S} s", INVESTIGATE) from error
    say(f"{answer.stdout}\n{answer.stderr}".strip())
    if answer.returncode != 0:
        words = last_words(answer.stdout, answer.stderr) or f"it said nothing, exit status {answer.returncode}"
        raise ProfilerFailed(f"ncu failed: {words}", ALLOW if PERMISSION in words else INVESTIGATE)
    return by_shape(parse(answer.stdout), len(job.shapes))


def by_shape(kernels: Sequence[KernelBytes], shapes: int) -> list[tuple[KernelBytes, ...]]:
    """The kernels before each marker.

    Raises:
        ProfilerFailed: there are not as many markers as shapes, or a shape launched nothing.
    """
    parts: list[tuple[KernelBytes, ...]] = [()]
    for kernel in kernels:
        if kernel.name == MARKER:
            parts.append(())
        else:
            parts[-1] = (*parts[-1], kernel)
    counted, rest = parts[:-1], parts[-1]
    if len(counted) != shapes or rest or not all(counted):
        raise ProfilerFailed(
            f"ncu profiled {len(counted)} of {shapes} shapes, kernels of each: {', '.join(str(len(p)) for p in parts)}",
            INVESTIGATE,
        )
    return counted


def parse(text: str) -> list[KernelBytes]:
    """Name, bytes_read and bytes_written of each kernel from ncu's `--csv --page raw --print-units base`.

    The table stands among ncu's own lines (==PROF==) and the target's; the row below its header holds the units.

    Raises:
        ProfilerFailed: there is no kernel, a metric is missing, is not in bytes or is no number.
    """
    lines = list(dropwhile(lambda line: not line.startswith('"ID",'), text.splitlines()))
    table = list(csv.DictReader(line for line in lines if line.startswith('"')))
    if len(table) < 2:
        words = last_words(text, "") or "it said nothing"
        raise ProfilerFailed(f"ncu profiled no kernel: {words}", ALLOW if PERMISSION in words else INVESTIGATE)
    units, rows = table[0], table[1:]
    if missing := [name for name in (NAME, *METRICS) if name not in units]:
        raise ProfilerFailed(f"ncu's table lacks {', '.join(missing)}", INVESTIGATE)
    read, written = (_bytes(units, rows, metric) for metric in METRICS)
    return [
        KernelBytes(name=row[NAME], bytes_read=into, bytes_written=out)
        for row, into, out in zip(rows, read, written, strict=True)
    ]


def _bytes(units: dict[str, str], rows: Sequence[dict[str, str]], metric: str) -> list[int]:
    """One metric of each kernel."""
    if units[metric] != "byte":
        raise ProfilerFailed(f"ncu gives {metric} in {units[metric]!r}, expected 'byte'", INVESTIGATE)
    values = []
    for row in rows:
        try:
            values.append(round(float(row[metric].replace(",", ""))))
        except ValueError:
            raise ProfilerFailed(f"ncu gives {row[metric]!r} for {metric}, expected a number", INVESTIGATE) from None
    return values


def last_words(stdout: str, stderr: str) -> str:
    """Why ncu failed, on one line: its errors, with the last line of the target's where there is one."""
    said, complained = ([line.strip() for line in text.splitlines() if line.strip()] for text in (stdout, stderr))
    errors = [line for line in (*said, *complained) if line.startswith("==ERROR==")]
    return "; ".join(dict.fromkeys([*(errors or said[-1:]), *complained[-1:]])).replace("==ERROR== ", "")
