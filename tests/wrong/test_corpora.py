"""The corpora themselves: how many kinds there are, and that no check could go without being missed."""

from __future__ import annotations

from wrong.checks import CHECKS
from wrong.corpora import ATTACKS, HONEST_AND_WRONG, KINDS
from wrong.trial import SETTINGS

from nsa.bench.check.corners.cases import cases

EVERY = {name: entry for entries in KINDS.values() for name, entry in entries.items()}


def test_there_are_enough_kinds() -> None:
    """At least 35 honest and 25 cheating ones, and 45 that a CPU tries."""
    cheats = KINDS["cheating"]
    assert len(HONEST_AND_WRONG) >= 35 and len(cheats) + len(ATTACKS) >= 25
    assert len([entry for entry in EVERY.values() if entry.on != "cuda"]) >= 45
    assert len(EVERY) == sum(len(entries) for entries in KINDS.values())


def test_every_check_has_an_entry_that_only_it_rejects() -> None:
    """With any one check off some entry would pass: those of wrong.checks, and each corner case."""
    alone = {entry.check for entry in EVERY.values() if entry.only}
    assert {*CHECKS, *cases(SETTINGS.dtype.of("cpu"))} - alone == set()


def test_every_entry_names_a_check() -> None:
    """No entry waits for a check that does not exist."""
    known = {*CHECKS, *cases(SETTINGS.dtype.of("cpu")), "memory floor", "speed"}
    assert {entry.check for entry in EVERY.values()} <= known
