"""The columns of the tables that stages hand to each other; see nsa.records.words for what they hold."""

from __future__ import annotations

import pyarrow as pa

CELL = [  # what was measured: one decode cell
    ("device", pa.string()),  # cpu or cuda
    ("device_name", pa.string()),
    ("device_uuid", pa.string()),
    ("batch", pa.int32()),
    ("dim", pa.int32()),
    ("heads", pa.int32()),
    ("groups", pa.int32()),
    ("head_dim", pa.int32()),
    ("value_dim", pa.int32()),
    ("S", pa.int32()),
    ("cmp_block", pa.int32()),
    ("cmp_stride", pa.int32()),
    ("sel_block", pa.int32()),
    ("sel_count", pa.int32()),
    ("window", pa.int32()),
    ("phi", pa.string()),
    ("dtype", pa.string()),
    ("seed", pa.int32()),
]

TIMING = [  # one repetition, and the state of the GPU in its block
    ("process", pa.int32()),
    ("block", pa.int32()),
    ("order", pa.int32()),  # position inside the block
    ("value_ns", pa.int64()),  # null on a device whose times decide nothing
    ("sm_clock_mhz", pa.int32()),
    ("temperature_c", pa.int32()),
    ("power_w", pa.float32()),
    ("throttle_bits", pa.int64()),  # NVML's clock event reasons
]

REPETITIONS = pa.schema(
    [
        *CELL,
        ("arm", pa.string()),  # one of ARMS, an arm computed in another way (OTHER), EMPTY, or one of CONTROLS
        ("emits", pa.bool_()),  # whether this step adds a compressed token
        ("backend_requested", pa.string()),
        ("backend_resolved", pa.string()),
        ("mode", pa.string()),  # graph or eager
        ("cache_state", pa.string()),  # cold or warm
        *TIMING,
    ]
)

KERNEL_CALLS = pa.schema(  # one kernel on one shape: a repetition, or what is said of its outputs
    [
        ("backend", pa.string()),  # a backend's name, VARIANT and one of SDPA's, AGAIN and a backend's, or CONTROLS
        ("rows", pa.int32()),  # N = sequences x groups
        ("heads_per_group", pa.int32()),
        ("head_dim", pa.int32()),
        ("value_dim", pa.int32()),
        ("sel_count", pa.int32()),
        ("sel_block", pa.int32()),
        ("context", pa.int32()),
        ("groups", pa.int32()),
        ("dtype", pa.string()),
        *TIMING,
        ("seed", pa.int32()),
        ("mae", pa.float64()),  # against packed SDPA, same dtype
        ("oracle_error", pa.float64()),  # worst-row relative L2 against the float64 oracle
        ("sdpa_oracle_error", pa.float64()),  # the same of packed SDPA
        ("fault", pa.string()),  # the first correctness check that failed; null when none did
        ("judged", pa.int32()),  # timed outputs that this row's errors are the worst of; null of untimed ones
    ]
)

# The corner case that a row is of, whose seed is that of the run; null on the grid.
CHECK_REPETITIONS = KERNEL_CALLS.append(pa.field("case", pa.string()))

# The empty graph, whose backend is EMPTY, and CONTROLS have no shape; the bytes are those of the selected K and V.
ROOFLINE = KERNEL_CALLS.append(pa.field("selected_bytes", pa.int64()))

# One decode core, or what it is compared with, on one shape: a repetition, or what is said of its outputs. The empty
# graph and CONTROLS have the shape beside which they were timed.
CORE = pa.schema(
    [
        ("backend", pa.string()),  # a backend's name, AGAIN and it, COMPOSED, DENSE and a kernel, EMPTY or CONTROLS
        ("batch", pa.int32()),
        ("groups", pa.int32()),
        ("heads_per_group", pa.int32()),
        ("head_dim", pa.int32()),
        ("value_dim", pa.int32()),
        ("context", pa.int32()),
        ("cmp_block", pa.int32()),
        ("cmp_stride", pa.int32()),
        ("sel_block", pa.int32()),
        ("sel_count", pa.int32()),
        ("window", pa.int32()),
        ("dtype", pa.string()),
        *TIMING,
        ("floor_bytes", pa.int64()),  # that it must read: K and V of the tokens of its branches, or of all tokens
        ("keys", pa.string()),  # how the keys were drawn: one of KEYS
        ("case", pa.string()),  # TIMED, UNSEEN, or the corner case; null of a repetition
        ("seed", pa.int64()),  # of the inputs
        ("error", pa.float64()),  # worst-row relative L2 against the float64 oracle
        ("composed_error", pa.float64()),  # the same of the composed core
        ("fault", pa.string()),  # the first check that failed; null when none did
        ("judged", pa.int32()),  # timed outputs that this row's error is the worst of
        ("rows", pa.int32()),  # (sequence, group) rows of a core whose blocks were judged
        ("clear", pa.int32()),  # of these, those in which rounding cannot have decided between blocks
    ]
)

OF_STAGE = {
    "decode": REPETITIONS,
    "check": CHECK_REPETITIONS,
    "roofline": ROOFLINE,
    "core": CORE,
    "core_curve": CORE,
}
