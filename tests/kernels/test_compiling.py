"""A Triton kernel that does not compile is the backend's failure, with what the compiler said and what to look at."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kernels.triton.calls import Kind, random_call
from strategies import CPU
from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from nsa.attention.parts import step_parts
from nsa.bench.method.failures import guarded
from nsa.bench.tune import process
from nsa.errors import KernelFailed, NoMemory
from nsa.kernels.compiling import NotCompiled
from nsa.kernels.failures import BackendBroken, PartsBroken, kernel_at_work
from nsa.kernels.parts import kernels as parts_kernels
from nsa.kernels.parts import routing
from nsa.kernels.parts.parts import TritonParts
from nsa.kernels.step import Lengths
from nsa.kernels.triton import kernel
from nsa.kernels.triton.select import SelectAttention
from nsa.shapes import NsaShape

PTXAS = (
    "Internal Triton PTX codegen error\n`ptxas` stderr:\nptxas fatal   : Value 'sm_120a' is not defined\nRepro: ptxas"
)
CALL = random_call(1, Kind(torch.float32, 32, 32, 16, "plain"), CPU, rows=4, blocks=4)


class Raises:
    """A kernel whose first launch fails."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __getitem__(self, grid: object) -> object:
        def launch(*_: object, **__: object) -> None:
            raise self.error

        return launch


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (PTXASError(PTXAS), "ptxas fatal   : Value 'sm_120a' is not defined"),
        (PermissionError(13, "Permission denied", "/nowhere/cache"), "Permission denied: '/nowhere/cache'"),
        (NotADirectoryError(20, "Not a directory", "/dev/null/x"), "Not a directory: '/dev/null/x'"),
        (RuntimeError("Could not create or locate cache dir"), "Could not create or locate cache dir"),
        (RuntimeError("Failed to find C compiler. Please specify via CC"), "Failed to find C compiler"),
        (subprocess.CalledProcessError(1, ["gcc", "main.c"]), "returned non-zero exit status 1"),
        (CompilationError("src", None, "no such operation"), "no such operation"),
        (ImportError("/tmp/cache/x.so: failed to map segment"), "failed to map segment"),
    ],
    ids=["old ptxas", "cache", "no folder", "no cache", "no compiler", "compiler fails", "language", "noexec"],
)
def test_what_does_not_compile_is_told_with_its_fix(
    raised: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that says why, and the variables by which Triton finds what it compiles with."""
    monkeypatch.setattr(kernel, "attend", Raises(raised))
    with pytest.raises(NotCompiled) as caught:
        guarded("triton", SelectAttention({}))(*CALL)
    assert str(caught.value).startswith("triton: it does not compile: ") and told in str(caught.value)
    assert "\n" not in str(caught.value)
    for variable in ("TRITON_PTXAS_PATH", "TRITON_CACHE_DIR", "CC"):
        assert variable in caught.value.fix
    assert caught.value.__cause__ is raised


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), KernelFailed),
        (RuntimeError("Triton Error [CUDA]: out of memory"), NoMemory),
        (OutOfResources(232448, 101376, "shared memory"), KernelFailed),
        (AssertionError("a bug"), KernelFailed),
    ],
)
def test_other_failures_are_not_of_the_compiler(
    raised: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that fails, or is full, is told as before."""
    monkeypatch.setattr(kernel, "attend", Raises(raised))
    with pytest.raises(kind) as caught, kernel_at_work("triton"):
        SelectAttention({})(*CALL)
    assert not isinstance(caught.value, NotCompiled)


@pytest.mark.parametrize("part", ["compressed", "route", "select_blocks"])
def test_parts_that_do_not_compile_fail_their_cells(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed attention and routing run in the cells of every backend: each has its outcome, and a way without."""
    for module, name in ((parts_kernels, "attend"), (routing, "choose")):
        monkeypatch.setattr(module, name, Raises(PTXASError(PTXAS)))
    parts, shape = TritonParts(), NsaShape()
    lengths = Lengths(torch.tensor([512], dtype=torch.int32), 512, True)
    calls: dict[str, Callable[[], object]] = {
        "compressed": lambda: parts.compressed(
            torch.randn(1, 2, 4, 32), torch.randn(1, 2, 31, 32), torch.randn(1, 2, 31, 32), lengths, shape, True
        ),
        "route": lambda: parts.route(None, lengths, shape),
        "select_blocks": lambda: parts.select_blocks(torch.rand(1, 8), lengths.seq_lens, 64, 16),
    }
    with pytest.raises(NotCompiled, match=r"decode\.parts: it does not compile: .*'sm_120a' is not defined") as caught:
        calls[part]()
    assert caught.value.fix.endswith(", or set decode.parts to torch")


def test_parts_that_cannot_be_imported_fail_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Triton that does not load is no fault of the harness."""
    monkeypatch.setitem(sys.modules, "nsa.kernels.parts.parts", None)
    with pytest.raises(PartsBroken, match=r"decode\.parts: ModuleNotFoundError: .+ halted") as caught:
        step_parts("triton")
    assert caught.value.fix.endswith("set decode.parts to torch")


@pytest.mark.parametrize("missing", ["triton.runtime.errors", "nsa.kernels.triton.select"])
def test_a_triton_that_cannot_be_imported_fails_its_tuning(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage has an outcome: an import that fails is no fault of the harness."""
    monkeypatch.delitem(sys.modules, "nsa.bench.tune.replicate", raising=False)
    monkeypatch.delattr("nsa.bench.tune.replicate", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(BackendBroken, match=r"triton: ModuleNotFoundError: import of .+ halted"):
        process.replicate(None, None)  # type: ignore[arg-type]


def test_a_cache_that_cannot_be_written_is_told_by_triton_as_an_error_of_the_system(tmp_path: Path) -> None:
    """What is taken for a failure to compile is what Triton raises: its cache manager on a file in a folder's place."""
    (tmp_path / "file").touch()
    code = "from triton.runtime.cache import get_cache_manager; get_cache_manager('00')"
    environ = {"TRITON_CACHE_DIR": str(tmp_path / "file" / "cache")}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
    assert "NotADirectoryError" in ran.stderr
