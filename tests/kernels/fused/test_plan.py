"""Plans of the fused core for every capability: they fit the device, cover the tokens, and follow no length."""

from __future__ import annotations

import itertools
import re

import pytest

from nsa.errors import InputError
from nsa.kernels.core import Parts, Sizes
from nsa.kernels.fused.build import EXTENSION
from nsa.kernels.fused.plan import (
    ARMS,
    HOLDING,
    RESERVED_BYTES,
    SCAN_WARPS,
    SELECT_RESERVED_BYTES,
    TOGETHER,
    WIDTHS,
    Call,
    Device,
    Plan,
    part_bytes,
    plan,
    stream_bytes,
    three_launches,
)
from nsa.kernels.limits import HEAD_DIMS

AMPERE = Device((8, 0), 108, 166912)
ADA = Device((8, 9), 128, 101376)  # 99 KiB, no clusters
HOPPER = Device((9, 0), 132, 232448)
BLACKWELL = Device((12, 0), 170, 101376)  # clusters, 99 KiB
DEVICES = (AMPERE, ADA, HOPPER, BLACKWELL)
PAPER = Sizes(32, 16, 64, 16, 512)


def call(batch: int = 1, capacity: int = 8192, sizes: Sizes = PAPER, D: int = 128, Dv: int = 128, h: int = 16) -> Call:
    """A call with 4 groups and all parts."""
    return Call(batch, 4, h, D, Dv, capacity, sizes, Parts())


def three_bytes(made: Plan, asked: Call) -> tuple[int, int]:
    """Shared memory of a thread block of the first and, at least, of the second of three launches (csrc/launch.cuh)."""
    sizes, cells = asked.sizes, asked.sizes.sel_block // asked.sizes.cmp_stride
    scan = part_bytes(asked, SCAN_WARPS) + made.chunk_blocks * cells * 64
    chunks = -(-sizes.num_compressed(asked.capacity) // (made.chunk_blocks * cells))
    blocks = sizes.num_blocks(asked.capacity)
    keys = -(-blocks // 32) * 128 if blocks <= 4096 else 0
    return scan, max(part_bytes(asked, made.warps), part_bytes(asked, 0) + 1024 + chunks * 128 + keys)


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: str(device.capability))
def test_three_launches_fit_every_device(device: Device) -> None:
    """Whatever the widths, sizes and capacities, a block's shared memory is there, and chunks reach far enough."""
    other = Device((8, 0), *device[1:])  # the same memory without clusters: every call takes three launches
    sizes = (
        PAPER,
        Sizes(48, 16, 128, 128, 0),
        Sizes(5, 1, 1, 3, 7),
        Sizes(64, 64, 64, 96, 4096),
        Sizes(512, 16, 64, 16, 1),
    )
    for D, Dv, size, capacity, batch in itertools.product(
        HEAD_DIMS, HEAD_DIMS, sizes, (1, 100, 8192, 131072), (1, 256)
    ):
        asked = call(batch, capacity, size, D, Dv)
        made = plan(asked, other)
        assert made.name == "three" and made.warps in (4, 8)
        scan, select = three_bytes(made, asked)
        assert scan <= device.shared_bytes - RESERVED_BYTES and select <= device.shared_bytes - SELECT_RESERVED_BYTES
        assert made.chunk_blocks * (size.sel_block // size.cmp_stride) >= size.cmp_block // size.cmp_stride - 1
        assert min(made.win_tokens, made.sel_tokens) > 0 and made.win_tokens % 16 == made.sel_tokens % 16 == 0


def test_splits_of_three_launches() -> None:
    """The window and the selected tokens are split alike, less often the more rows there are."""
    made = [three_launches(call(batch), HOPPER)[1:4] for batch in (1, 4, 8, 32, 256)]
    assert made == [(16, 32, 64), (16, 64, 128), (16, 64, 128), (32, 256, 512), (128, 512, 1024)]
    assert three_launches(call(D=256, Dv=256), ADA).warps == 4  # of eight there is no room for the tiles


def test_a_chunk_that_does_not_fit_is_refused() -> None:
    """Sizes whose scores no thread block can hold are one line, which says what fits."""
    with pytest.raises(InputError, match=r"l' = 8192 .* bytes of shared memory of this GPU, expected at most \d+"):
        plan(call(sizes=Sizes(1, 1, 8192, 16, 512)), ADA)


@pytest.mark.parametrize("device", [AMPERE, ADA], ids=["8.0", "8.9"])
def test_without_clusters_there_are_three_launches(device: Device) -> None:
    """No capability below 9.0 gets a plan of one launch."""
    assert {plan(call(batch), device).name for batch in (1, 8, 32, 256)} == {"three"}


def test_on_hopper_the_papers_geometry_is_one_launch() -> None:
    """Few rows are resident, long ones pass through rings, more stream; each plan's shared memory fits."""
    assert [plan(call(batch), HOPPER)[::4] for batch in (1, 2, 4)] == [
        ("resident", 16),
        ("resident", 8),
        ("resident", 6),
    ]
    assert [plan(call(batch, capacity), HOPPER)[::4] for batch, capacity in ((1, 65537), (2, 32769), (4, 18433))] == [
        ("ring", 16),
        ("ring", 8),
        ("ring", 6),
    ]
    assert [
        plan(call(batch, capacity, D=192), HOPPER)[::4] for batch, capacity in ((1, 65536), (2, 16385), (4, 65536))
    ] == [
        ("resident", 16),
        ("ring", 8),
        ("ring", 6),
    ]
    assert plan(call(4, 65537, D=192), HOPPER)[::4] == ("stream", 4)  # no room for the keys' ring
    # 256 rows at once, one thread block each, where the caches are short; else two a row
    assert [plan(call(64, capacity), HOPPER)[-2:] for capacity in (16384, 16385)] == [(1, 4), (2, 4)]
    assert plan(call(1, 131073), HOPPER).name == "stream"  # no room for the row's exponentials
    # whole chunks a warp where two thread blocks a row have no room for sums by tile
    assert [plan(call(16, capacity), HOPPER)[::4] for capacity in (108544, 108545, 131072, 133120, 133121)] == [
        ("stream", 2),
        ("chunks", 2),
        ("chunks", 2),
        ("chunks", 2),
        ("stream", 3),
    ]
    for batch, capacity, (D, Dv) in itertools.product(
        (1, 2, 3, 4, 8, 16, 32, 64, 128, 256), (1, 4096, 8192, 16384, 65536, 131072), WIDTHS
    ):
        asked = call(batch, capacity, D=D, Dv=Dv)
        made = plan(asked, HOPPER)
        assert made.name in ("stream", "resident", "ring", "chunks"), asked
        if made.name == "stream":
            assert stream_bytes(asked, made.cluster, made.warps) <= HOPPER.shared_bytes // (8 // made.warps), asked
        elif made.name == "chunks":
            assert stream_bytes(asked, made.cluster, made.warps, TOGETHER) <= HOPPER.shared_bytes, asked
        else:
            built = getattr(HOLDING[D][made.cluster], made.name)
            assert capacity <= built.tokens and built.shared_bytes <= HOPPER.shared_bytes
            assert batch * 4 * made.cluster <= 112


def test_the_shared_memory_of_a_streaming_block_is_the_kernels() -> None:
    """The formula gives what the C++ of csrc/stream.cuh gives for the same sizes (taken from a compiled program)."""
    found = [
        stream_bytes(call(capacity=65536), 1),
        stream_bytes(call(capacity=65536), 2),
        stream_bytes(call(capacity=16384, D=192), 1),
        stream_bytes(call(capacity=131072), 2),
        stream_bytes(call(capacity=4096, D=32, Dv=32), 8),
        stream_bytes(call(capacity=131072, D=64, Dv=64), 1, 4),
        stream_bytes(call(capacity=131072), 2, 8, TOGETHER),
    ]
    assert found == [231808, 197504, 195968, 248704, 43328, 225152, 230272]


def test_the_shared_memory_of_a_cluster_that_holds_a_row_is_the_kernels() -> None:
    """What plans reckon with is what the C++ asserts, the greatest of each number of thread blocks."""
    for name in ("resident", "ring"):
        asserted = (EXTENSION.csrc / f"{name}_shared.cuh").read_text()
        found: dict[tuple[int, int], int] = {}
        for D, ranks, count in re.findall(r"Shared<(\d+), (\d+), \d+>::bytes == (\d+)", asserted):
            found[int(D), int(ranks)] = max(int(count), found.get((int(D), int(ranks)), 0))
        planned = {
            (D, ranks): getattr(cluster, name) for D, built in HOLDING.items() for ranks, cluster in built.items()
        }
        assert found == {key: layout.shared_bytes for key, layout in planned.items()}


@pytest.mark.parametrize(
    "changed",
    [
        {"sizes": Sizes(32, 16, 64, 17, 512)},
        {"sizes": Sizes(16, 16, 64, 16, 512)},
        {"D": 64},
        {"Dv": 64},
        {"capacity": 1 << 20},
    ],
)
def test_other_geometries_take_three_launches_on_hopper(changed: dict[str, object]) -> None:
    """What the one-launch kernels are not built for, or cannot hold, takes the path that is right for everything."""
    assert plan(call(8, **changed), HOPPER).name == "three"  # type: ignore[arg-type]


def test_every_arm_of_a_cell_runs_by_the_same_plan() -> None:
    """Arms leave out parts of the same kernel: their differences are those of the parts."""
    for batch in (1, 8, 32):
        made = {plan(call(batch)._replace(parts=parts), HOPPER) for parts in ARMS}
        assert len(made) == 1
