"""Candidates that change the process they are loaded in are rejected by the one that judges them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from bench.check.simulated import SMALL
from standins import ON_CPU
from wrong.attacks import ATTACKS
from wrong.trial import ON_GPU, PLAIN, Trial, on_a_gpu, trial_of

from nsa.bench.apart import burst, peer, process
from nsa.bench.apart.worker import replicate
from nsa.bench.check.corners import judge
from nsa.bench.check.corners.cases import cases
from nsa.bench.check.job import Job
from nsa.bench.workers import Turn
from nsa.config import CheckSettings
from nsa.errors import KernelFailed
from nsa.kernels.failures import BackendBroken
from nsa.machine.host import Host

ONE = SMALL.model_copy(update={"value_dim": (32,)})
ROUNDING = 1e-5  # of float32: what packed SDPA is off by is less


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """What was there before is hidden from those that look through all memory, and would take seconds a call."""
    gc.freeze()
    yield
    gc.unfreeze()


def tried(name: str, settings: CheckSettings, host: Host, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """The check of an attack in its own process, as the pipeline makes it."""
    attack = ATTACKS[name]
    monkeypatch.setattr(peer, "ENTRY", attack.entry)
    if host.device.kind == "cpu":  # a process of its own all the same, which has imported torch
        monkeypatch.setattr(process, "START", "fork")
    corner = {each: case for each, case in cases(settings.dtype.of(host.device.kind)).items() if each == attack.check}
    monkeypatch.setattr(judge, "cases", lambda dtype: corner)
    job = Job("cuda", settings, host, 0, apart=True, corners=0)
    try:
        checked = replicate(job, Turn())
    except BackendBroken as error:
        return Trial({PLAIN: str(error)}, None)
    except KernelFailed as error:
        return Trial({"runs": str(error)}, None)
    packed = [row for row in checked.rows if str(row["backend"]).startswith("sdpa:")]
    assert all(row.get("fault") is None for row in packed), "what packed SDPA gives beside it is right"
    assert all(error <= ROUNDING for row in packed if isinstance(error := row.get("oracle_error"), float)) or (
        settings is ON_GPU
    )
    return trial_of(checked, settings, host)


def assert_rejected(name: str, trial: Trial) -> None:
    """By the check that is meant to, and with its words."""
    attack = ATTACKS[name]
    assert attack.check in trial.found, f"{attack.check} lets it pass; rejected by {trial.found}"
    assert attack.because in trial.found[attack.check]


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.on != "cuda"])
def test_an_attack_is_judged_from_another_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outputs are found wrong, or it fails; what packed SDPA gives beside it is right."""
    monkeypatch.setattr(burst, "MOST_REPLAYS", 20)
    monkeypatch.setattr(burst, "MOST_QUERIES", 20)
    assert_rejected(name, tried(name, ONE, ON_CPU, monkeypatch))


@pytest.mark.gpu
@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.on == "cuda"])
def test_an_attack_on_the_times_is_seen_by_the_judge(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks and switches of its own process change nothing of what decides."""
    assert_rejected(name, tried(name, ON_GPU, on_a_gpu(), monkeypatch))
