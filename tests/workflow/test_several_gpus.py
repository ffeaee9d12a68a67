"""`--cores 4 --resources gpu=4`: four cells at once, each on a card of its own; with a stand-in for the GPUs."""

from __future__ import annotations

import pytest
from project import Project

from nsa.records import parquet

CONTEXTS = [128, 192, 256, 320]
CELL = '''
"""A stand-in: takes one of four like GPUs, holds it for a while, and says when."""

import time
from nsa.records import parquet, schemas
from nsa.machine import gpus as gpu_choice
from nsa.machine.host import Host, Machine
from nsa.config import Flags
from nsa.machine.fingerprint import Gpu, Gpus

gpu_choice.read_gpus = lambda: Gpus("580", tuple(Gpu("NVIDIA H200", f"GPU-{n}") for n in range(4)), None)


def run_cell(backend, S, stamp, environment, artifacts, out):
    host = Host("cuda", "NVIDIA H200", "GPU-0", Machine((9, 0)), Flags())
    with gpu_choice.one_gpu(host, print) as card:
        start = time.time()
        time.sleep(4)
        facts = {"stage": "decode", "backend": backend, "S": S, "device": "cuda", "status": "unavailable"}
        facts |= {"reason": "a stand-in", "card": card.device_uuid, "start": start, "end": time.time()}
    parquet.write(out, [], schemas.REPETITIONS, facts)
'''


@pytest.mark.parametrize(
    ("arguments", "at_once"), [(["--cores", "4", "--resources", "gpu=4"], 4), (["--cores", "4"], 1)]
)
def test_as_many_cells_run_at_once_as_there_are_gpus(arguments: list[str], at_once: int, clone: Project) -> None:
    """Four GPUs of which one is used measure no faster; two cells on one GPU measure each other."""
    (clone.root / "nsa/bench/decode/stage.py").write_text(CELL)
    clone.configure(contexts=CONTEXTS[: max(2, at_once)], candidates=[])
    result = clone.snakemake("results/decode_sdpa.parquet", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    cells = [clone.root / f"results/decode/sdpa/S{S}.parquet" for S in CONTEXTS[: max(2, at_once)]]
    facts = [parquet.read(path)[1] for path in cells]
    running = [sum(other["start"] <= one["start"] < other["end"] for other in facts) for one in facts]
    assert max(running) == at_once
    assert len({fact["card"] for fact in facts}) == at_once
