"""A kernel in the candidate's process, called from the judge's as if it were here."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from statistics import median

import pytest
import torch
from bench.check.simulated import mine
from standins import CPU, ON_CPU

from nsa.bench.apart import peer
from nsa.bench.apart import process as module
from nsa.bench.apart.process import CandidateProcess
from nsa.bench.check import loading
from nsa.bench.check.job import Job
from nsa.bench.check.remote import Remote, RemoteCandidate
from nsa.bench.method.accuracy import run_poisoned
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.bench.method.kernels import changed_input, enter, last_calls
from nsa.bench.method.remote import launched_by, together
from nsa.bench.method.replays import Replays
from nsa.bench.method.timing import CudaTimer
from nsa.config import Flags
from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention
from nsa.kernels.sdpa.packed import gather
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records.shapes import CheckShape
from nsa.report.verdict.isolation import BURST_EXCESS, excess

SHAPE = CheckShape(4, 2, 32, 32, 3, 16, 60, 2, "float32")
LARGE = CheckShape(64, 8, 64, 64, 8, 64, 1024, 4, "float16")
RESERVE = 1 << 20  # less than a call of the large shape needs: memory is added
Start = Callable[[str], Remote]


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Starts the process of one of the hostile module's backends, once each."""
    running: dict[str, tuple[CandidateProcess, Remote]] = {}

    def of(entry: str) -> Remote:
        if entry not in running:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "START", "fork")  # a new interpreter takes seconds to import torch
                process = CandidateProcess("cuda", Job.server)
                process.ready()
                patch.setattr(peer, "ENTRY", f"bench.check.hostile:{entry}")
                made = loading.there(process, ON_CPU.machine, ON_CPU.flags, CPU, False, RESERVE)
            assert isinstance(made.backend.selection, Remote)
            running[entry] = process, made.backend.selection
        return running[entry][1]

    yield of
    for process, _ in running.values():
        process.__exit__(None, None, None)


@pytest.mark.parametrize("shape", [SHAPE, LARGE], ids=str)
def test_a_call_gives_what_the_kernel_gives_here(shape: CheckShape, start: Start) -> None:
    """Bit by bit, whatever the sizes and the dtype, NaN beyond the lengths included."""
    call = ragged_case(shape, 0, CPU)
    assert torch.equal(start("right")(*call), mine(*call))


def test_strides_reach_the_kernel(start: Start) -> None:
    """A head that is no multiple apart, a transposed cache and shared indices are what the kernel is given."""
    call = full_case(SHAPE, 0, CPU)
    q = torch.randn(2, 2, 2, 64)[..., ::2]
    k = call.k.transpose(1, 2).contiguous().transpose(1, 2)
    indices = call.block_indices[:1, :1].expand(2, 2, -1)
    strided = call._replace(q=q, k=k, block_indices=indices)
    given = start("strides")(*strided)[0, 0, 0, :7].int().tolist()
    assert given == [*q.stride()[2:], *k.stride()[:3], *indices.stride()[:2]]
    assert torch.equal(start("right")(*strided), mine(*strided))


def test_what_a_kernel_does_to_its_inputs_is_seen_here(start: Start) -> None:
    """The caller's tensor has the change, so that whoever compares it finds it."""
    call = full_case(SHAPE, 0, CPU)
    _, fault = run_poisoned(start("mutates"), call)
    assert fault == "the input v was changed" and call.v[-1, -1, -1, -1] == 3


def test_a_refusal_is_one_and_leaves_the_process_as_it_was(start: Start) -> None:
    """The next call is made; once a call was taken, to refuse one is a failure."""
    kernel, call = start("picky"), full_case(SHAPE, 0, CPU)
    kernel(*call)
    free = kernel._arena.mark()
    for _ in range(3):
        with pytest.raises(InputError, match="no odd batch"):
            kernel(*Call(*(tensor[:1] for tensor in call[:5]), call.block_size))
        assert torch.equal(kernel(*call), mine(*call)) and kernel._arena.mark() == free
    with pytest.raises(Exception, match="it refuses a call after it took one of this shape: no odd batch"):
        kernel.having_taken()(*Call(*(tensor[:1] for tensor in call[:5]), call.block_size))


@pytest.mark.parametrize(("entry", "own"), [("right", True), ("static", False)])
def test_two_outputs_that_are_held_at_once(entry: str, own: bool, start: Start) -> None:
    """One buffer for every output shows, as it does in one process, though each output is copied."""
    calls = [full_case(SHAPE, seed, CPU) for seed in (0, 1)]
    here: dict[str, SelectAttention] = {"right": mine, "static": one_buffer()}
    for kernel in (start(entry), here[entry]):
        first, second = together(kernel, calls)
        assert torch.equal(first, mine(*calls[0])) is own and torch.equal(second, mine(*calls[1]))


def one_buffer() -> SelectAttention:
    """Every output is the same tensor, here."""
    buffer: list[torch.Tensor] = []

    def kernel(*arguments) -> torch.Tensor:
        output = mine(*arguments)
        buffer[:] = buffer or [output]
        return buffer[0].copy_(output)

    return kernel


def test_what_a_call_launches_is_told(start: Start) -> None:
    """The names are those of the same call here."""
    call = full_case(SHAPE, 0, CPU)
    assert launched_by(start("right"), call) == launched_by(mine, call) != []


def test_an_output_is_poisoned_before_the_call(start: Start) -> None:
    """A kernel that writes a part of what it allocates shows NaN."""
    output, fault = run_poisoned(start("unwritten"), full_case(LARGE, 0, CPU))
    assert fault == "the output is not finite, or was not written everywhere" and output[:, :, :1].isfinite().all()


def test_every_timed_replay_has_the_judges_inputs(start: Start) -> None:
    """Each output is right for its draw, blocks of twins alternate, and the inputs are in the end as they were."""
    call = full_case(SHAPE, 0, CPU)
    replays, kernel = Replays(call, 5, changes=True), start("right")
    timed = enter({"cuda": kernel, "again:cuda": kernel}, {}, replays, random.Random(0), None, every=True)
    for name in ("cuda", "again:cuda", "again:cuda", "cuda"):
        assert len(timed.group[name].time(3)) == 3
    other = full_case(SHAPE, 0, CPU)
    expected = Replays(other, 5, changes=True)
    right: dict[int, torch.Tensor] = {}
    for replay in range(12):
        expected.refresh()
        expected.count += 1
        right[replay] = mine(*other)
    found = {name: candidate.returned for name, candidate in timed.group.items()}
    assert found["cuda"].replays == [0, 1, 2, 9, 10, 11] and found["again:cuda"].replays == [3, 4, 5, 6, 7, 8]
    for returned in found.values():
        for replay, output in zip(returned.replays, returned.outputs, strict=True):
            assert torch.equal(output, right[replay])
    candidate = timed.group["cuda"]
    assert isinstance(candidate, RemoteCandidate) and changed_input(candidate.inputs(), other) is None
    assert changed_input(call, full_case(SHAPE, 0, CPU)) is None  # the judge's own were not touched
    kernel.release()


def test_a_replay_has_the_inputs_that_the_judge_has_now(start: Start) -> None:
    """What is prepared follows the call's tensors, and calls in between disturb nothing."""
    call, unseen, kernel = full_case(SHAPE, 0, CPU), ragged_case(SHAPE, 1, CPU), start("right")
    timed = enter({"cuda": kernel}, {}, Replays(call, 0, changes=True), random.Random(0), None, every=True)
    candidate = timed.group["cuda"]
    candidate.time(2)
    for tensor, other in zip(call[:5], unseen[:5], strict=True):
        tensor.copy_(other)
    large = full_case(LARGE, 0, CPU)
    assert torch.equal(kernel(*large), mine(*large))
    assert torch.equal(candidate.replay(), mine(*unseen))
    kernel.release()
    assert torch.equal(kernel(*large), mine(*large))


@pytest.mark.gpu
def test_a_kernel_on_a_gpu_is_called_timed_and_clocked_in_its_process() -> None:
    """Memory of the judge reaches it by a handle: outputs have the bits of this process's, and its times are sound."""
    device, shape = torch.device("cuda"), CheckShape(256, 8, 64, 64, 8, 64, 4096, 4, "bfloat16")
    host = Host.of("cuda", Flags(), probe(), {})
    with CandidateProcess("sdpa", Job.server) as process:
        process.ready()
        made = loading.there(process, host.machine, host.flags, device, True, 1 << 20)
        kernel = made.backend.selection
        assert isinstance(kernel, Remote)
        for call in (ragged_case(shape, 0, device), full_case(shape, 1, device)):
            call = call._replace(k=call.k.transpose(1, 2).contiguous().transpose(1, 2))
            assert torch.equal(kernel(*call), gather(*call))
        call = full_case(shape, 2, device)
        replays, timer = Replays(call, 5, changes=True), CudaTimer(device)
        timed = enter({"sdpa": kernel, "sdpa:gather": gather}, {}, replays, random.Random(0), timer, every=True)
        own, here = (timed.group[name] for name in ("sdpa", "sdpa:gather"))
        assert isinstance(own, RemoteCandidate)
        own.give()
        theirs, ours = median(own.time(20)), median(here.time(20))
        assert 0.8 < theirs / ours < 1.25
        _, outputs = last_calls(timed)
        assert torch.equal(outputs["sdpa"][0], outputs["sdpa:gather"][0])
        bursts = kernel.bursts("sdpa", replays, theirs, timer)
        assert changed_input(own.inputs(), call._replace(q=bursts[-1].last_q)) is None
        assert [burst.queries for burst in bursts] == [1, bursts[1].replays]
        for burst in bursts:
            assert torch.equal(burst.outputs[0], gather(*call._replace(q=burst.q)))
            assert 0 < burst.empty_ns < 60_000
            assert excess(burst) <= BURST_EXCESS
        kernel.release()
        assert made.switched() == () and made.backend.notes() == []
