"""Which GPU a timed job takes, and its lock: the first free one among the visible cards of the run's model."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from nsa.errors import ConfigError
from nsa.layout import Layout
from nsa.machine import locks
from nsa.machine.fingerprint import VISIBLE, Gpus, read_gpus
from nsa.machine.host import Host
from nsa.machine.process import announce

POLL_S = 0.5  # between looks at several cards that are all taken


class Taken(Exception):
    """Another job has the card; what gpu_lock says of it."""


@contextmanager
def one_gpu(host: Host, notify: Callable[[str], None]) -> Iterator[Host]:
    """Hold one card of the host's model, alone, waiting until one is free; CUDA sees no other in a new process.

    Two cards of one model are alike, so `--cores 4 --resources gpu=4` runs four jobs on four of them. A CPU counts as
    one device. A GPU that NVML does not list (a MIG instance, or NVML is silent) is locked and used as it is.

    Args:
        host: where the environment record says that the run is.
        notify: called with a line for each GPU that does not answer, and once when there is somebody to wait for.

    Yields:
        The host with the uuid of the card. The choice binds processes that start inside, not this one.

    Raises:
        ConfigError: no card of the model is visible.
    """
    gpus = read_gpus() if host.device.kind == "cuda" else None
    for line in gpus.lost if gpus else ():
        notify(f"{line}; it is left out")
    cards = alike(host, gpus, os.environ) if gpus else ()
    if not cards:
        with gpu_lock(host.device.uuid, notify):
            yield host
        return
    with first_free(cards, notify) as uuid, pinned(uuid):
        yield host.on_card(uuid)


def alike(host: Host, gpus: Gpus, environ: Mapping[str, str]) -> tuple[str, ...]:
    """The uuids of the visible cards of the host's model; none where NVML does not list what CUDA uses.

    Raises:
        ConfigError: NVML lists cards, and none of the model is visible; or which are visible cannot be told.
    """
    silent = gpus.reason is not None or (gpus.lost and not gpus.devices)
    if silent or "MIG" in host.device.name.split():
        return ()
    models, listed = {gpu.name for gpu in gpus.devices}, environ.get(VISIBLE, "")
    by_number = any(entry.strip().isdecimal() for entry in listed.split(","))
    if len(models) > 1 and by_number and environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        raise ConfigError(
            f"{VISIBLE}: got {listed!r} on a machine with {', '.join(sorted(models))}, where a number names another "
            "card in CUDA than in NVML; expected uuids, or CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )
    visible = gpus.visible(environ)
    cards = tuple(gpu.uuid for gpu in visible if gpu.name == host.device.name)
    if not cards:
        seen = ", ".join(map(str, (*visible, *gpus.lost))) or "none"
        raise ConfigError(
            f"{VISIBLE}: got {environ.get(VISIBLE)!r}, which shows {seen}; expected a {host.device.name}, the model in "
            f"{Layout().environment} (a cluster with several models needs the gpu_model resource)"
        )
    return cards


@contextmanager
def first_free(uuids: Sequence[str], notify: Callable[[str], None]) -> Iterator[str]:
    """Hold the lock of the first of these cards that is free, waiting as long as none is."""
    if len(uuids) == 1:
        with gpu_lock(uuids[0], notify):
            yield uuids[0]
        return
    told = False
    with ExitStack() as held:
        while (uuid := _take(uuids, held)) is None:
            if not told:
                line = f"waiting for one of {len(uuids)} GPUs: other jobs are timing on {', '.join(uuids)}"
                notify(line)
                announce(line)
                told = True
            time.sleep(POLL_S)
        yield uuid


def _take(uuids: Sequence[str], held: ExitStack) -> str | None:
    def taken(line: str) -> None:
        raise Taken(line)  # instead of waiting

    for uuid in uuids:
        try:
            held.enter_context(gpu_lock(uuid, taken))
        except Taken:
            continue
        return uuid
    return None


@contextmanager
def pinned(uuid: str) -> Iterator[None]:
    """CUDA_VISIBLE_DEVICES names this card alone; CUDA reads it when a process first uses it."""
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = uuid
    try:
        yield
    finally:
        if before is None:
            del os.environ[VISIBLE]
        else:
            os.environ[VISIBLE] = before


def gpu_lock(uuid: str | None, notify: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold the lock of a GPU, see locks.device_lock.

    Args:
        uuid: of the GPU; None takes the lock for timing on the CPU.
        notify: called once with one line when there is somebody to wait for.
    """
    return locks.device_lock(uuid or "cpu-timing", notify)
