"""A Triton kernel that does not compile, told as a failure that says what to look at."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from triton.compiler.errors import CompilationError
from triton.runtime.errors import OutOfResources, PTXASError

from nsa.errors import KernelFailed
from nsa.kernels.failures import out_of_memory, said

P = ParamSpec("P")
T = TypeVar("T")
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


class PartsNotCompiled(NotCompiled):
    """The same of the kernels of decode.parts, without which a step can be computed."""

    fix = f"{NotCompiled.fix}, or set decode.parts to torch"


def compiles(name: str, kind: type[NotCompiled] = NotCompiled) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Of a function that launches Triton kernels: what does not compile is a NotCompiled; other errors pass.

    Args:
        name: of what is launched, for the message.
        kind: of failure.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def launch(*arguments: P.args, **keywords: P.kwargs) -> T:
            try:
                return function(*arguments, **keywords)
            except Exception as error:
                if not of_compiling(error):
                    raise
                raise kind(f"{name}: it does not compile: {_reason(error)}") from error

        return launch

    return decorate


def of_compiling(error: Exception) -> bool:
    """Whether an error of a launch is of compiling, and not of the device.

    A configuration that needs more of the device than there is (OutOfResources) is compiled, and is no such error.
    """
    if isinstance(error, OutOfResources) or out_of_memory(error):
        return False
    words = isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)
    return isinstance(error, COMPILING) or words


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
