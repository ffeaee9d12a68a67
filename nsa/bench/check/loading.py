"""The candidate, loaded in the process that judges it or in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nsa.bench.apart.peer import about, load
from nsa.bench.apart.process import CandidateProcess
from nsa.bench.check.remote import Remote
from nsa.bench.method import switches
from nsa.config import CheckSettings, Flags
from nsa.kernels.contract import Backend
from nsa.machine.host import Machine
from nsa.records.grids import grid
from nsa.records.words import ITEM_BYTES

FURTHER_BYTES = 1 << 24  # indices, lengths, tokens that change, and what lies between tensors


@dataclass(frozen=True)
class Loaded:
    """A backend, in whatever process, and what tells which of torch's switches it has changed by now."""

    backend: Backend
    switched: Callable[[], tuple[str, ...]]


def here(load: Callable[[], Backend]) -> Loaded:
    """A backend of this process."""
    before = switches.read()
    backend = load()
    return Loaded(backend, lambda: switches.changed(before, switches.read()))


def there(
    process: CandidateProcess, machine: Machine, flags: Flags, device: torch.device, timed: bool, reserve: int
) -> Loaded:
    """A backend of the candidate's process, shown as one of this process; it has no variants.

    Args:
        process: that was started for it.
        machine, flags: see nsa.kernels.registry.load.
        device: of all tensors.
        timed: whether its graphs are timed, on CUDA.
        reserve: bytes of memory that both see.

    Raises:
        BackendUnavailable, KernelFailed, NoMemory, RecordError: as nsa.kernels.registry.load.
    """
    load(process, machine, flags, device, timed)
    backend = Backend(process.name, Remote(process, device, reserve), notes=lambda: about(process, "notes"))
    return Loaded(backend, lambda: tuple(str(each) for each in about(process, "switched")))


def shared_bytes(settings: CheckSettings, kind: str, replays: int) -> int:
    """What both processes see at once, at most: the inputs of a call, and what a block's replays take and give.

    Args:
        settings: whose grid it is.
        kind: of the device.
        replays: of a block.
    """
    elements = [
        (shape.head_dim + shape.value_dim)
        * shape.rows
        * (shape.context + shape.sel_block + (replays + 1) * shape.heads_per_group)
        for shape in grid(settings, kind)
    ]
    return ITEM_BYTES[settings.dtype.of(kind)] * max(elements) + FURTHER_BYTES
