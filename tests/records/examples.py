"""One example of the facts of each stage, with every kind of value that a record can hold."""

from __future__ import annotations

from nsa.records.decode import DecodeFacts, Geometry, Judged, Reads
from nsa.records.dram import CountedShape, DramFacts, KernelBytes
from nsa.records.facts import CheckFacts, Device, LeftOut, Replicate, RooflineFacts, State
from nsa.records.shapes import CheckShape

GPU = Device(kind="cuda", name="NVIDIA H200", uuid="GPU-1")
TIMED = {
    "device": GPU,
    "flush": "write 256 MiB",
    "bandwidth_bytes_per_s": (3.9e12, 4e12),
    "read_bandwidth_bytes_per_s": (3.7e12, 3.8e12),
    "replicates": (
        Replicate(
            process=0,
            duration_s=1.5,
            sm_clock_min_mhz=1980,
            sm_clock_max_mhz=1995,
            throttle_bits=4,
            sm_clock_start_mhz=1980,
            waited_clock_s=0.0,
        ),
        Replicate(
            process=1,
            duration_s=0.1,
            sm_clock_min_mhz=None,
            sm_clock_max_mhz=None,
            throttle_bits=None,
            sm_clock_start_mhz=None,
            waited_clock_s=0.0,
        ),
    ),
    "other_processes": (7,),
    "notes": ({"size": {"rows": 4}, "chosen_by": "rule"}, "a line", None),
}
DECODE = DecodeFacts(
    **TIMED,
    geometry=Geometry(
        S=4096,
        batch=1,
        dim=256,
        heads=8,
        groups=2,
        head_dim=32,
        value_dim=32,
        cmp_block=32,
        cmp_stride=16,
        sel_block=64,
        sel_count=16,
        window=512,
        phi="mean",
        dtype="bfloat16",
        seed=0,
    ),
    reads=Reads(cmp=255, sel=1024.5, win=512, actual=1791.5, expected=1791),
    bytes_read=458_496,
    parts="triton",
    emit_weight=1 / 16,
    outputs_finite=False,
    routing_fault="S = 8, n = 3: chose blocks [0], expected [0, 1]",
    judged=(
        Judged(
            process=0,
            steps=1032,
            outputs={"none": 0.0, "all": None},
            states={"key": 3e-6, "k_cmp": None},
            lengths_right=False,
            caches_kept=False,
            rows=256,
            clear=255,
            wrong=1,
        ),
    ),
    launches={"all": {"void f<(int)4>(T1)": 2}, "none": {}},
)
CHECK = CheckFacts(
    **TIMED,
    dtype="bfloat16",
    left_out=(LeftOut(name="sdpa:varlen", shape="N=4", reason="q, k, v: got float32"),),
)
ROOFLINE = RooflineFacts(
    **TIMED,
    backends={"sdpa": State(status="ok"), "cuda": State(status="failed", reason="it crashed", fix="look at it")},
)
DRAM = DramFacts(
    device=GPU,
    shapes=(
        CountedShape(
            shape=CheckShape(256, 4, 64, 64, 8, 64, 4096, 4, "bfloat16"),
            bytes_expected=100,
            bytes_read=90,
            bytes_written=20,
            ratio=1.1,
            kernels=(KernelBytes(name="f", bytes_read=90, bytes_written=20),),
        ),
    ),
)
FACTS = {"decode": DECODE, "check": CHECK, "roofline": ROOFLINE, "dram": DRAM}
