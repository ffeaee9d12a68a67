"""How a call of the fused core is split, from its sizes at capacity and what the device has; never from lengths."""

from __future__ import annotations

from typing import Literal, NamedTuple

from nsa.errors import InputError
from nsa.kernels.core import Parts, Sizes

SCAN_WARPS = 4  # of a thread block of the first of three launches (csrc/scan.cuh)
SELECT_WARPS = (8, 4)  # of the second, the first that fits (csrc/select.cuh)
TILE = 16  # tokens of one tensor-core step, and rows of heads
RESERVED_BYTES = 2048  # of shared memory: a thread block's 1 KiB, and what the kernels declare beside
SELECT_RESERVED_BYTES = 7168  # the same of the second of three launches (csrc/launch.cuh)
MOST_CHUNKS = 512  # csrc/route.cuh keeps 128 bytes a chunk in shared memory
CLUSTERS = (9, 0)  # the first capability that has them
PAPER = (32, 16, 64)  # l, d and l' of the one-launch kernels (csrc/row.cuh)
WIDTHS = ((32, 32), (64, 64), (128, 128), (192, 128))  # D and Dv of theirs (csrc/stream_launch.cuh)
FAST_SELECTED = 16  # n of theirs, at most
# Thread blocks a row that the streaming kernel is built for, and the share of multiprocessors, in percent, up to which
# all of a launch's clusters are resident (measured on an H100; beyond it a launch runs in two waves).
SPLITS = {8: 80, 4: 80, 3: 80, 2: 100, 1: 100}
CHUNKS = 2  # thread blocks a row where a warp takes whole chunks (csrc/stream.h)
TOGETHER = 4  # compressed tiles of a chunk: their sums have exponents in common, and take less room
CLUSTER_WINDOW = 512  # of the resident and the ring kernel (csrc/resident.cuh, csrc/ring.cuh)
ARMS = (  # parts that they are built for (csrc/stream.h)
    Parts(),
    Parts(sel=False),
    Parts(sel=False, win=False),
    Parts(route=False, sel=False, win=False),
    Parts(cmp=False, route=False, win=False),
    Parts(cmp=False, route=False, sel=False),
)
ONE_WAVE_TOKENS = 16384  # up to which a thread block a row, all resident, is faster than two (an H100, B = 64, G = 4)
DEEP = 4  # thread blocks a multiprocessor that a split aims at


class Layout(NamedTuple):
    """How much of a row a thread block's shared memory has room for."""

    tokens: int  # capacity, at most
    shared_bytes: int


class Cluster(NamedTuple):
    """What a cluster that holds a row, or its exponentials alone, is built for."""

    share: int  # as in SPLITS: seven clusters of 16 are resident
    resident: Layout  # csrc/resident_shared.cuh
    ring: Layout  # csrc/ring_shared.cuh


HOLDING = {  # by D, and by thread blocks a row
    128: {
        16: Cluster(85, Layout(65536, 211216), Layout(131072, 224752)),
        8: Cluster(80, Layout(32768, 227792), Layout(131072, 222896)),
        6: Cluster(73, Layout(18432, 225040), Layout(131072, 227600)),
    },
    192: {
        16: Cluster(85, Layout(65536, 229648), Layout(131072, 218608)),
        8: Cluster(80, Layout(16384, 198096), Layout(131072, 229760)),
        6: Cluster(73, Layout(12288, 227088), Layout(65536, 230176)),
    },
}


class Device(NamedTuple):
    """What a plan depends on of a GPU."""

    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int  # that one thread block may have


class Call(NamedTuple):
    """What a plan depends on of a call."""

    batch: int
    groups: int
    heads: int
    head_dim: int
    value_dim: int
    capacity: int  # tokens that the caches have room for
    sizes: Sizes
    parts: Parts


class Plan(NamedTuple):
    """How a call is split.

    Attributes:
        name: for the records.
        chunk_blocks: selection blocks whose compressed tokens one thread block reads.
        win_tokens, sel_tokens: window and selected tokens that one thread block reads.
        cluster: thread blocks that share a row in one launch.
        warps: of a thread block in one launch, and in the second of three.
    """

    name: Literal["three", "stream", "resident", "ring", "chunks"]
    chunk_blocks: int
    win_tokens: int
    sel_tokens: int
    cluster: int
    warps: int

    @property
    def numbers(self) -> list[int]:
        """As the operator takes it (csrc/call.h)."""
        kind = {"three": 0, "stream": 1, "resident": 2, "ring": 3, "chunks": 4}[self.name]
        return [kind, self.chunk_blocks, self.win_tokens, self.sel_tokens, self.cluster, self.warps]


def plan(call: Call, device: Device) -> Plan:
    """The plan of a call.

    Raises:
        InputError: a compression or selection block has too many strides for the device's shared memory.
    """
    return one_launch(call, device) or three_launches(call, device)


def one_launch(call: Call, device: Device) -> Plan | None:
    """The plan of the paper's geometry where a row's thread blocks can be a cluster; None of anything else."""
    sizes = call.sizes
    fast = (
        device.capability >= CLUSTERS
        and sizes[:3] == PAPER
        and sizes.sel_count <= FAST_SELECTED
        and (call.head_dim, call.value_dim) in WIDTHS
        and call.parts in ARMS
    )
    if not fast:
        return None
    rows, processors = call.batch * call.groups, device.multiprocessors
    for ranks, built in HOLDING.get(call.head_dim, {}).items():
        if rows * ranks <= processors * built.share // 100:
            if _holds(call, built.resident, device):
                return Plan("resident", 1, 1, 1, ranks, 16)
            if _holds(call, built.ring, device):
                return Plan("ring", 1, 1, 1, ranks, 16)
    if rows > processors:  # two thread blocks a multiprocessor: one row's memory beside another's routing
        one_wave = rows <= 2 * processors and call.head_dim == 128 and call.capacity <= ONE_WAVE_TOKENS
        cluster = 1 if rows >= 3 * processors or call.head_dim < 128 or one_wave else 2
        if stream_bytes(call, cluster, 4) <= device.shared_bytes // 2 - 1024:
            return Plan("stream", 1, 1, 1, cluster, 4)
    fitting = [cluster for cluster in SPLITS if stream_bytes(call, cluster) <= device.shared_bytes]
    for cluster, share in ((cluster, SPLITS[cluster]) for cluster in fitting):
        if rows * cluster <= processors * share // 100:
            return Plan("stream", 1, 1, 1, cluster, 8)
    if not fitting:
        return None
    chunks_fit = call.head_dim == 128 and stream_bytes(call, CHUNKS, 8, TOGETHER) <= device.shared_bytes
    if fitting[-1] > CHUNKS and chunks_fit:
        return Plan("chunks", 1, 1, 1, CHUNKS, 8)
    return Plan("stream", 1, 1, 1, fitting[-1], 8)


def _holds(call: Call, layout: Layout, device: Device) -> bool:
    """Whether a cluster can hold a row: only parts for data centres (9.x and 10.x) have the memory for it."""
    fits = call.capacity <= layout.tokens and call.sizes.window <= CLUSTER_WINDOW
    return (
        fits
        and call.sizes.sel_count == FAST_SELECTED
        and device.shared_bytes >= layout.shared_bytes
        and device.capability < (11, 0)
    )


def stream_bytes(call: Call, cluster: int, warps: int = 8, together: int = 1) -> int:
    """Shared memory of a thread block that streams a share of a row (csrc/stream_tile.cuh, StreamShared)."""
    stages, free, chunk = 2, 13, 4
    ring = stages * TILE * (call.head_dim + call.value_dim) * 2
    share = -(-TILE * call.value_dim // 4 // cluster)
    keys = 128 + _up(cluster * free * 8, 16) + 64 + 256 + 16
    before = _up(warps * (ring + 128) + 3 * cluster * 128 + 128 + 192 + keys + 64, 128) + TILE * call.head_dim * 2
    chunks = -(-call.capacity // (4 * 64 * chunk * cluster))
    halo, outputs = (128, cluster * share * 16) if cluster > 1 else (0, 0)
    return before + outputs + chunks * (halo + chunk * (4 * 64 + 16) + chunk // together * (64 + 32))


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def three_launches(call: Call, device: Device) -> Plan:
    """The plan of every size on every GPU: about DEEP thread blocks a multiprocessor where the tokens allow it."""
    sizes, rows = call.sizes, call.batch * call.groups
    cells, cover = sizes.sel_block // sizes.cmp_stride, sizes.cmp_block // sizes.cmp_stride
    room = device.shared_bytes - RESERVED_BYTES - part_bytes(call, SCAN_WARPS)
    most = room // (4 * TILE) if call.parts.route else 1 << 20  # compressed tokens whose scores a thread block holds
    tokens = max(sizes.num_compressed(call.capacity), 1)
    share = max(1, DEEP * device.multiprocessors // rows)  # thread blocks a row

    spill = -(-(cover - 1) // cells)  # blocks that a chunk reaches into beyond its last one
    fewest = max(1, spill, -(-tokens // (MOST_CHUNKS * cells)))
    wanted = -(-max(min(tokens // share, 512), SCAN_WARPS * TILE) // cells)
    chunk_blocks = max(fewest, min(wanted, most // cells))
    if call.parts.route and chunk_blocks * cells > most:
        raise InputError(
            f"sizes: a chunk of {chunk_blocks * cells} compressed tokens, for l = {sizes.cmp_block}, "
            f"d = {sizes.cmp_stride}, l' = {sizes.sel_block} and S = {call.capacity}, does not fit into the "
            f"{device.shared_bytes} bytes of shared memory of this GPU, expected at most {most}"
        )
    selected = min(sizes.sel_count, sizes.num_blocks(call.capacity)) * sizes.sel_block
    width = min(sizes.window, call.capacity)
    wanted = max(selected, width) // (SCAN_WARPS * TILE)  # splits, of both: a thread block has a share of each
    splits = max(1, min(share // (4 if share > 16 else 2), wanted))
    fitting = [w for w in SELECT_WARPS if part_bytes(call, w) <= device.shared_bytes - SELECT_RESERVED_BYTES]
    return Plan("three", chunk_blocks, _share(width, splits), _share(selected, splits), 1, fitting[0])


def part_bytes(call: Call, warps: int) -> int:
    """Shared memory that a thread block's attention takes (csrc/part.cuh, PartShared)."""
    ring = max(TILE * (call.head_dim + call.value_dim) * 2, TILE * (call.value_dim + 8) * 4)
    return TILE * 64 + call.head_dim * TILE * 2 + warps * _up(ring, 128)


def _share(count: int, splits: int) -> int:
    """Tokens of a thread block: whole tiles."""
    return max(1, -(-count // (splits * TILE))) * TILE
