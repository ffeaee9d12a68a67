"""A Triton kernel that does not compile, told as a failure of the backend that says what to look at."""

from __future__ import annotations

import subprocess

from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from nsa.errors import KernelFailed
from nsa.kernels.failures import out_of_memory, said

# What Triton itself raises where it compiles: its language, ptxas, a cache folder or a C compiler that is not there.
COMPILING = (CompilationError, PTXASError, OSError, subprocess.CalledProcessError, ImportError)
WORDS = (
    "cache dir",
    "C compiler",
    "Failed to load newly compiled",
    "PassManager",
    "codegen error",
)  # of a RuntimeError
TELLING = ("fatal", "error")  # a line of ptxas's or a compiler's that says what is wrong
SHOWN = 300  # characters of it


class NotCompiled(KernelFailed):
    """A kernel that Triton could not compile on this machine."""

    fix = (
        "check what Triton compiles with: TRITON_PTXAS_PATH (a ptxas that knows this GPU), CC (a C compiler) and "
        "TRITON_CACHE_DIR (a folder that can be written and executed from)"
    )


def not_compiled(error: Exception) -> NotCompiled | None:
    """What an error of a launch says of the compiling; None where it is of something else, such as the device.

    A configuration that needs more of the device than there is (OutOfResources) is compiled, and is no such error.
    """
    if isinstance(error, OutOfResources) or out_of_memory(error):
        return None
    of_compiling = isinstance(error, COMPILING) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
    )
    return NotCompiled(f"triton: it does not compile: {_reason(error)}") if of_compiling else None


def _reason(error: Exception) -> str:
    """The kind of the error and its telling line; all of it goes into the job's log."""
    first = said(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, CompilationError):  # the place, the source up to there, the message
        found = lines[-1:]
    else:
        found = [line for line in lines if any(word in line.lower() for word in TELLING)]
    telling = [line for line in found if line not in first]
    return "; ".join([first, *telling[:1]])[:SHOWN]
