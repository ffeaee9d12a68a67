"""`--cores 4 --resources gpu=4`: four cells at once, each on a card of its own; with a stand-in for the GPUs."""

from __future__ import annotations

import re
from itertools import accumulate
from pathlib import Path

import pytest
from project import Project

from nsa.records import parquet
from nsa.records.decode import DecodeFacts
from nsa.records.outcome import Header

CONTEXTS = [128, 192, 256, 320]
CELL = '''
"""A stand-in: takes one of four like GPUs, and holds it until as many cells as the test expects have one each."""

import os
import time
from pathlib import Path

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
        Path(f"{S}.at-work").touch()
        deadline = time.monotonic() + 100
        while len(list(Path().glob("*.at-work"))) < int(os.environ["AT_ONCE"]) and time.monotonic() < deadline:
            time.sleep(0.05)
    result = Result(card.device, Unavailable(reason=card.device.uuid, fix="it is a stand-in"))
    write(out, open_stage(stamp, environment, artifacts), "decode", result, backend, S)
'''


@pytest.mark.parametrize(
    ("arguments", "at_once"), [(["--cores", "4", "--resources", "gpu=4"], 4), (["--cores", "4"], 1)]
)
def test_as_many_cells_run_at_once_as_there_are_gpus(arguments: list[str], at_once: int, clone: Project) -> None:
    """As many cells run at once as GPUs are given, each on a card of its own; without a word, one."""
    (clone.root / "nsa/bench/decode/stage.py").write_text(CELL)
    clone.configure(contexts=CONTEXTS[: max(2, at_once)], candidates=[])
    result = clone.run("results/decode_sdpa.parquet", "--verbose", *arguments, environ={"AT_ONCE": str(at_once)})
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    assert most_at_work(said) == at_once
    cards = {card(clone.root / f"results/decode/sdpa/S{S}.parquet") for S in CONTEXTS[: max(2, at_once)]}
    assert len(cards) == at_once


def most_at_work(said: str) -> int:
    """How many jobs ran at once, at most, as Snakemake tells of each that begins and ends."""
    at_work = accumulate(
        int(begun or -1) for begun in re.findall(r"^(?:Execute (\d+) jobs|Finished )", said, re.MULTILINE)
    )
    return max(at_work)


def card(cell: Path) -> str:
    """The card that the stand-in held."""
    _, header = parquet.read(cell, Header[DecodeFacts])
    return str(header.outcome.reason)
