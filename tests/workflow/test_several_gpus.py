"""`--cores 4 --resources gpu=4`: four cells at once, each on a card of its own; with a stand-in for the GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project import Project

from nsa.records import parquet
from nsa.records.facts import DecodeFacts
from nsa.records.outcome import Header

CONTEXTS = [128, 192, 256, 320]
CELL = '''
"""A stand-in: takes one of four like GPUs, holds it for a while, and says when."""

import json
import time

from nsa.bench.records import open_stage, write
from nsa.bench.runner import Result
from nsa.config import Flags
from nsa.machine import gpus
from nsa.machine.fingerprint import Gpu, Gpus
from nsa.machine.host import Host, Machine
from nsa.records.facts import Device
from nsa.records.outcome import Unavailable

gpus.read_gpus = lambda: Gpus("580", tuple(Gpu("NVIDIA H200", f"GPU-{n}") for n in range(4)), None)


def run(backend, S, stamp, environment, artifacts, out):
    device = Device(kind="cuda", name="NVIDIA H200", uuid="GPU-0")
    with gpus.one_gpu(Host(device, Machine((9, 0)), Flags()), print) as card:
        start = time.time()
        time.sleep(4)
        said = {"card": card.device.uuid, "start": start, "end": time.time()}
    result = Result(card.device, Unavailable(reason=json.dumps(said), fix="it is a stand-in"))
    write(out, open_stage(stamp, environment, artifacts), "decode", result, backend, S)
'''


@pytest.mark.parametrize(
    ("arguments", "at_once"), [(["--cores", "4", "--resources", "gpu=4"], 4), (["--cores", "4"], 1)]
)
def test_as_many_cells_run_at_once_as_there_are_gpus(arguments: list[str], at_once: int, clone: Project) -> None:
    """As many cells run at once as GPUs are given, each on a card of its own; without a word, one."""
    (clone.root / "nsa/bench/decode/stage.py").write_text(CELL)
    clone.configure(contexts=CONTEXTS[: max(2, at_once)], candidates=[])
    result = clone.run("results/decode_sdpa.parquet", *arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    cells = [clone.root / f"results/decode/sdpa/S{S}.parquet" for S in CONTEXTS[: max(2, at_once)]]
    facts = [said(path) for path in cells]
    running = [sum(other["start"] <= one["start"] < other["end"] for other in facts) for one in facts]
    assert max(running) == at_once
    assert len({fact["card"] for fact in facts}) == at_once


def said(path: Path) -> dict[str, Any]:
    """What the stand-in left in a cell."""
    _, header = parquet.read(path, Header[DecodeFacts])
    found: dict[str, Any] = json.loads(str(header.outcome.reason))
    return found
