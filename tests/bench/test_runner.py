"""A process of its own: what it returns, and what becomes of one that crashes, hangs or is killed."""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from nsa.bench.check import stage as kernel_check
from nsa.bench.decode import stage as decode
from nsa.bench.runner import in_fresh_process, out_of_memory
from nsa.config import CheckSettings, DecodeSettings, Flags
from nsa.errors import BackendUnavailable, KernelFailed, KernelHung, Killed
from nsa.machine.host import Host, Machine

LONG_S = 60.0
ON_CPU = Host("cpu", "a CPU", None, Machine(None), Flags())


def own_pid(_: object) -> int:
    return os.getpid()


def exits(status: int) -> None:
    os._exit(status)


def dies_of(number: int) -> None:
    faulthandler.disable()  # a fork has pytest's, which would print what it does
    os.kill(os.getpid(), number)


def hangs(told: Path) -> None:
    told.write_text(str(os.getpid()))
    time.sleep(LONG_S)


def refuses(_: object) -> None:
    raise BackendUnavailable("cuda", "its library is damaged", "delete it")


FORK = pytest.mark.parametrize("fork", [False, True], ids=["new interpreter", "fork"])


@FORK
def test_it_is_a_process_of_its_own(fork: bool) -> None:
    """Without it, replicates would share a memory layout and be no replicates."""
    first, second = (in_fresh_process(own_pid, None, LONG_S, fork) for _ in range(2))
    assert len({first, second, os.getpid()}) == 3


@FORK
def test_a_crash_is_the_kernels_failure(fork: bool) -> None:
    """Without it, a crashing kernel would take its cell's record, and the report, with it."""
    with pytest.raises(KernelFailed, match=r"^its process died while it ran \(exit status 139\)$"):
        in_fresh_process(exits, 139, LONG_S, fork)
    with pytest.raises(KernelFailed, match=r"^its process died while it ran \(SIGSEGV\)$"):
        in_fresh_process(dies_of, signal.SIGSEGV, LONG_S, fork)


def test_a_kill_from_outside_is_no_kernels_failure() -> None:
    """Without it, a killed replicate would be recorded as a failed kernel, and stay so when the run goes on."""
    for number in (signal.SIGKILL, signal.SIGTERM):
        with pytest.raises(Killed, match=rf"killed from outside \({number.name}.*run again$"):
            in_fresh_process(dies_of, number, LONG_S)


@FORK
def test_a_process_that_hangs_is_killed(tmp_path: Path, fork: bool) -> None:
    """Without it, a kernel that never ends would hold the GPU for ever, and its cell would say nothing."""
    start = time.monotonic()
    with pytest.raises(KernelHung, match=r"^it did not end within 3 s and was killed$") as caught:
        in_fresh_process(hangs, tmp_path / "pid", 3.0, fork)
    assert "timeout_s" in caught.value.fix
    assert time.monotonic() - start < LONG_S / 2
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("measure", ["decode", "check"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KernelFailed("its process died while it ran (SIGSEGV)"), "failed"),
        (KernelHung("it did not end within 600 s and was killed"), "failed"),
        (BackendUnavailable("sdpa", "its library is damaged", "delete it"), "unavailable"),
    ],
    ids=["crash", "hang", "damaged"],
)
def test_it_becomes_a_status_with_its_mend(
    measure: str, error: KernelFailed | BackendUnavailable, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, one backend's fault in the cells or in the check would end the whole run."""

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(decode if measure == "decode" else kernel_check, "in_fresh_process", fails)
    if measure == "decode":
        rows, facts = decode.measure("sdpa", 100, DecodeSettings(), ON_CPU, lambda line: None)
    else:
        rows, facts = kernel_check.check("sdpa", CheckSettings(), ON_CPU, lambda line: None)
    assert (rows, facts["status"], facts["fix"]) == ([], status, error.fix)
    assert facts["reason"] == (error.reason if isinstance(error, BackendUnavailable) else str(error))


def test_what_a_process_raises_keeps_its_reason() -> None:
    """Without it, an error with more than one argument would arrive as a crash of the process."""
    with pytest.raises(BackendUnavailable, match="is unavailable: its library is damaged; delete it") as caught:
        in_fresh_process(refuses, None, LONG_S)
    assert (caught.value.reason, caught.value.fix) == ("its library is damaged", "delete it")


def test_out_of_memory_is_told_from_other_faults() -> None:
    """Without it, a cell that does not fit would be recorded as a broken kernel."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
