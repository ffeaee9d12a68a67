"""What the timed stages share: where and on what they run, and the facts that every record carries."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

from nsa.config import Flags
from nsa.errors import KernelFailed, KernelHung, Killed
from nsa.machine.host import Host
from nsa.machine.process import die_with_parent
from nsa.records import files

Argument = TypeVar("Argument")
Result = TypeVar("Result")

NO_MEMORY = ("out of memory", "can't allocate memory")
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # no kernel ends its process by these


def open_stage(stamp: Mapping[str, Any], environment: Path, artifacts: Sequence[Path]) -> tuple[Host, dict[str, Any]]:
    """The host that a stamp's settings ask for, and the facts for the record: provenance and the stamp's digests.

    Args:
        stamp: of the stage.
        environment: the environment stage's record.
        artifacts: what backends' own stages made before, each record named by its backend.

    Raises:
        RecordError: an input record is missing or is not JSON.
        ConfigError: CUDA was asked for and is not there.
    """
    from nsa.machine.environment import provenance

    seen = files.read_json(environment)
    settings = stamp["settings"]
    own = {path.stem: files.read_json(path) for path in artifacts}
    host = Host.of(settings["device"], Flags(**settings["flags"]), seen, own)
    digests = {
        "sources": stamp["sources"]["digest"],
        "settings": stamp["settings_digest"],
        "machine": stamp["machine_digest"],
    }
    return host, {"provenance": provenance(seen), "stamp": digests}


def in_fresh_process(
    function: Callable[[Argument], Result], argument: Argument, timeout_s: float, fork: bool = False
) -> Result:
    """Call a function in a process of its own, which dies with this one: the process is the replicate.

    Args:
        function: what to call, with the argument.
        argument: its argument.
        timeout_s: how long it may take.
        fork: share what is imported instead of starting a new interpreter; for a CPU only, whose times decide nothing.

    Raises:
        KernelHung: it did not end in time; its process is killed.
        KernelFailed: its process died under the backend: a crash.
        Killed: its process was killed from outside.
    """
    context = multiprocessing.get_context("fork" if fork else "spawn")
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(1, mp_context=context, initializer=die_with_parent, initargs=(os.getpid(),)) as pool:
        future = pool.submit(function, argument)
        (worker,) = set(multiprocessing.active_children()) - others
        in_time = bool(wait([future], timeout_s).done)
        if not in_time:
            worker.kill()
    if not in_time:
        raise KernelHung(f"it did not end within {timeout_s:g} s and was killed")
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _death(worker.exitcode) from error


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator gave up: CUDA's or the CPU's of torch, or the driver's own under an extension."""
    return any(words in str(error) for words in NO_MEMORY)


def _death(exitcode: int | None) -> KernelFailed | Killed:
    """What a dead process says of who killed it."""
    if exitcode is not None and -exitcode in FROM_OUTSIDE:
        name = signal.Signals(-exitcode).name
        return Killed(
            f"its process was killed from outside ({name}: a user, a scheduler, or no memory left); run again"
        )
    how = signal.Signals(-exitcode).name if exitcode is not None and exitcode < 0 else f"exit status {exitcode}"
    return KernelFailed(f"its process died while it ran ({how})")
