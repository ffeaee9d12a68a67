"""Candidates that change the process they are loaded in are rejected by the one that judges them."""

from __future__ import annotations

import pytest
from bench.check.simulated import SMALL
from standins import ON_CPU
from wrong.attacks import ATTACKS

from nsa.bench.check import loading, remote
from nsa.bench.check.job import Job
from nsa.bench.check.judge import replicate
from nsa.bench.workers import Turn
from nsa.errors import KernelFailed
from nsa.records.words import Row

ONE = SMALL.model_copy(update={"value_dim": (32,)})
ROUNDING = 1e-5  # of float32: what packed SDPA is off by is less


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.on != "cuda"])
def test_an_attack_is_judged_from_another_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs are found wrong, or it fails; what packed SDPA gives beside it is right."""
    monkeypatch.setattr(loading, "ENTRY", ATTACKS[name].entry)
    monkeypatch.setattr(remote, "MOST_REPLAYS", 20)
    try:
        rows = replicate(Job("cuda", ONE, ON_CPU, 0, apart=True), Turn()).rows
    except KernelFailed:
        return
    assert any(wrong(row) for row in rows if row["backend"] == "cuda")
    assert not any(wrong(row) for row in rows if str(row["backend"]).startswith("sdpa:"))


def wrong(row: Row) -> bool:
    """Whether a row says that an output is not right, whatever it was compared with."""
    error = row.get("oracle_error")
    return row.get("fault") is not None or (isinstance(error, float) and not error <= ROUNDING)
