"""Compiling and linking the extension: commands, what the assembler says of each kernel, reuse of unchanged objects."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from nsa.kernels.extension.manifest import Kernel

SHARED = Path(__file__).parent / "csrc"  # headers of every extension
HEADERS = (".cuh", ".h")
# The oldest torch that the built library loads in: the headers then offer nothing newer.
TARGET_VERSION = "0x020b000000000000"
# libtorch brings in libtorch_cuda where torch has one. Nothing here refers to a symbol of it, and the linker drops such
# a library unless it is told not to.
TORCH = ("-Xlinker", "--no-as-needed", "-ltorch", "-ltorch_cpu")
ERROR = re.compile(r"\b(fatal|error)\b", re.IGNORECASE)
PTXAS_KERNEL = re.compile(r"Compiling entry function '(\w+)' for '(sm_\w+)'")
PTXAS_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
PTXAS_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class Built:
    """One compiled object, or why it failed."""

    source: str
    command: list[str]
    ok: bool
    reused: bool
    duration_s: float
    log: str


def torch_folder() -> Path:
    """Where torch is installed; finding it imports nothing."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None and spec.origin is not None, "torch is a dependency of this package"
    return Path(spec.origin).parent


def sources(csrc: Path) -> list[Path]:
    """Every translation unit of an extension."""
    return sorted(path for path in csrc.iterdir() if path.suffix in (".cu", ".cpp")) if csrc.is_dir() else []


def headers(csrc: Path) -> list[Path]:
    """What its translation units may include: its own headers, and the shared ones."""
    return [path for folder in (csrc, SHARED) for path in sorted(folder.iterdir()) if path.suffix in HEADERS]


def digest(csrc: Path, archs: Sequence[str], compiler: str) -> str:
    """What the library is made of: sources, headers, architectures, compiler (nvcc.Nvcc.identity) and flags."""
    known = hashlib.sha256(json.dumps([list(archs), compiler, flags(archs)]).encode())
    for path in (*sources(csrc), *headers(csrc)):
        known.update(path.name.encode() + path.read_bytes())
    return known.hexdigest()


def flags(archs: Sequence[str]) -> list[str]:
    """The compiler's flags, paths excepted; an architecture such as "80+PTX" leaves the assembling to the driver."""
    codes = []
    for arch in archs:
        version, ptx = arch.removesuffix("+PTX"), arch.endswith("+PTX")
        codes.append(f"-gencode=arch=compute_{version},code={'compute' if ptx else 'sm'}_{version}")
    options = ["-std=c++20", "-O3", "-Xcompiler", "-fPIC", "-Xptxas", "-v", "-lineinfo", "--threads", "2"]
    return [*codes, *options, f"-DTORCH_TARGET_VERSION={TARGET_VERSION}", "-DUSE_CUDA"]


def compile_all(nvcc: Path, identity: str, archs: Sequence[str], csrc: Path, folder: Path) -> list[Built]:
    """Compile every source of `csrc` into `folder`, in parallel; an object whose inputs have not changed is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda source: _compile(nvcc, identity, archs, source, folder), sources(csrc)))


def _compile(nvcc: Path, identity: str, archs: Sequence[str], source: Path, folder: Path) -> Built:
    include = torch_folder() / "include"
    target, stamp = folder / f"{source.stem}.o", folder / f"{source.stem}.json"
    command = [
        str(nvcc),
        *flags(archs),
        f"-I{include}",
        f"-I{source.parent}",
        f"-I{SHARED}",
        "-c",
        str(source),
        "-o",
        str(target),
    ]
    seen = hashlib.sha256(json.dumps([identity, flags(archs)]).encode())
    for path in (source, *headers(source.parent)):
        seen.update(path.read_bytes())
    if target.exists() and stamp.exists():
        kept = json.loads(stamp.read_text())
        if kept.pop("inputs") == seen.hexdigest():
            return Built(**{**kept, "reused": True})
    stamp.unlink(missing_ok=True)
    start = time.perf_counter()
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    built = Built(
        source.name, command, ran.returncode == 0, False, time.perf_counter() - start, ran.stdout + ran.stderr
    )
    if built.ok:
        stamp.write_text(json.dumps({**asdict(built), "inputs": seen.hexdigest()}))
    return built


def link(nvcc: Path, archs: Sequence[str], csrc: Path, folder: Path, library: Path) -> Built:
    """Link the objects against torch's stable interface and the static CUDA runtime: no Python, no C++ of torch."""
    start, lib = time.perf_counter(), torch_folder() / "lib"
    objects = [str(folder / f"{source.stem}.o") for source in sources(csrc)]
    temporary = library.with_suffix(".so.new")
    codes = flags(archs)[: len(archs)]
    command = [str(nvcc), *codes, "-shared", *objects, f"-L{lib}", *TORCH, "-o", str(temporary)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        temporary.replace(library)
    return Built(
        library.name, command, ran.returncode == 0, False, time.perf_counter() - start, ran.stdout + ran.stderr
    )


def kernels(log: str) -> tuple[Kernel, ...]:
    """What the assembler says of each kernel: architecture, registers, static shared memory, stack and spills."""
    found: list[Kernel] = []
    for line in log.splitlines():
        said: dict[str, int] = {}
        if match := PTXAS_KERNEL.search(line):
            found.append(Kernel(kernel=match[1], arch=match[2]))
        elif match := PTXAS_SPILLS.search(line):
            said = {"stack_bytes": int(match[1]), "spill_bytes": int(match[2]) + int(match[3])}
        elif match := PTXAS_USED.search(line):
            said = {"registers": int(match[1]), "smem_bytes": int(match[2] or 0)}
        if found and said:
            found[-1] = found[-1].model_copy(update=said)
    return tuple(found)


def warnings(log: str) -> tuple[str, ...]:
    """The compiler's warnings."""
    return tuple(line.strip() for line in log.splitlines() if "warning" in line.lower())


def first_error(failed: Sequence[Built]) -> tuple[str, ...]:
    """The first line in which the compiler calls something an error, else its last one; none where it said nothing."""
    lines = [line.strip() for step in failed for line in step.log.splitlines() if line.strip()]
    return tuple([line for line in lines if ERROR.search(line)][:1] or lines[-1:])
