"""Whose fault it is: what a backend raises is its failure, what the harness raises is not. This imports no torch."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from nsa.errors import BackendUnavailable, InputError, KernelFailed, NoMemory, NsaError, RecordError

NO_MEMORY = ("out of memory", "can't allocate memory")
SAID = (InputError, BackendUnavailable, KernelFailed, NoMemory)  # what a backend raises to say something of itself
BROKEN_FILE = RecordError  # an artifact that somebody damaged is nobody's failure: its line says which file to delete


class BackendBroken(KernelFailed):
    """A backend that cannot say whether it runs here, cannot be loaded, or does not keep its contract."""

    fix = "fix the backend, or leave it out of candidates"


class PartsBroken(KernelFailed):
    """What decode.parts names cannot be imported."""

    fix = "mend the installation of triton, or set decode.parts to torch"


@contextmanager
def kernel_at_work(name: str, kind: type[KernelFailed] = KernelFailed) -> Iterator[None]:
    """Whatever is raised inside is a backend's: a compiler's error, a launch that fails, an exit, an error of ours.

    Args:
        name: of the backend or the variant, for the message.
        kind: of failure.

    Raises:
        InputError, BackendUnavailable: as they were raised: a refusal is no failure.
        RecordError: a file of ours is damaged, which names it.
        NoMemory: the device's memory is full.
        KernelFailed: anything else, with its first line; the whole is in the job's log.
    """
    try:
        yield
    except (*SAID, BROKEN_FILE, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        raise failure(name, error, kind) from error


def failure(name: str, error: BaseException, kind: type[KernelFailed] = KernelFailed) -> NoMemory | KernelFailed:
    """What an error says of the backend that raised it, in one line; its traceback goes into the job's log."""
    words = said(error)
    return (
        NoMemory(words.removeprefix(f"{type(error).__name__}: ")) if out_of_memory(error) else kind(f"{name}: {words}")
    )


def said(error: BaseException) -> str:
    """The kind of an error that is none of ours, and its first line; its traceback goes into the job's log."""
    traceback.print_exception(error)
    lines = [line.strip() for line in _text(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    return first if isinstance(error, NsaError) else f"{type(error).__name__}: {first}"


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: CUDA's or the CPU's of torch, the driver's own under an extension, Python's."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in _text(error) for words in NO_MEMORY)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 (an error's own code may fail, too)
        return ""
