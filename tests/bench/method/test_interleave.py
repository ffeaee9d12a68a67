"""Candidates take turns: each is timed as often as asked, in random order, with the GPU's state beside it."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import pytest
from standins import Sampler

from nsa.bench.method.interleave import Candidate, Group, interleave, replicate_facts
from nsa.records.facts import Replicate
from nsa.records.words import Row


class Bench:
    """Groups of candidates, whose every repetition takes one nanosecond more than the one before it."""

    def __init__(self, *sizes: int) -> None:
        self.clock = 0
        self.groups: list[Group] = [
            [Candidate({"group": g, "name": f"{g}.{place}"}, self.time) for place in range(size)]
            for g, size in enumerate(sizes)
        ]

    def time(self, repetitions: int) -> list[int]:
        first, self.clock = self.clock, self.clock + repetitions
        return list(range(first, self.clock))

    def run(self, iters: int, blocks: int, seed: int = 0) -> list[Row]:
        return interleave(self.groups, iters, blocks, random.Random(seed), Sampler())


@pytest.mark.parametrize(("iters", "blocks"), [(1, 4), (4, 4), (5, 4), (7, 4), (13, 5), (25, 25), (3, 1)])
def test_each_is_timed_as_often_as_asked(iters: int, blocks: int) -> None:
    """Repetitions are spread evenly over the blocks, and every one has its row, in the order in which it was made."""
    rows = Bench(3, 1).run(iters, blocks)
    assert [row["value_ns"] for row in rows] == list(range(4 * iters))
    assert Counter(row["name"] for row in rows) == dict.fromkeys(("0.0", "0.1", "0.2", "1.0"), iters)
    each = Counter((row["name"], row["block"]) for row in rows)
    assert {block for _, block in each} == set(range(min(iters, blocks)))
    assert max(each.values()) - min(each.values()) <= 1


def test_the_order_is_random_in_each_block() -> None:
    """Groups follow each other in random order, candidates inside their group too, and `order` is the place there."""
    rows = Bench(3, 3, 3).run(iters=16, blocks=8)
    turns = [[name for name, _ in groupby(row["name"] for row in rows if row["block"] == block)] for block in range(8)]
    assert all(len(turn) == len(set(turn)) == 9 for turn in turns)  # each once in a block
    for turn in turns:
        assert sum(one[0] == other[0] for one, other in pairwise(turn)) == 6  # a group's candidates stay together
    assert len({tuple(dict.fromkeys(name[0] for name in turn)) for turn in turns}) > 2
    assert len({tuple(name for name in turn if name[0] == "1") for turn in turns}) > 2
    for row in rows:
        turn = turns[int(str(row["block"]))]
        assert row["order"] == [name for name in turn if name[0] == str(row["group"])].index(str(row["name"]))


def test_what_is_early_comes_first_in_the_first_block() -> None:
    """Whatever the order drawn; in later blocks it has a place like others."""
    firsts: list[list[str]] = []
    for seed in range(12):
        bench = Bench(3, 2, 1)
        bench.groups[1] = [replace(one, early=True) for one in bench.groups[1]]
        rows = bench.run(8, 4, seed)
        firsts.append([next(str(row["name"])[0] for row in rows if row["block"] == block) for block in range(4)])
    assert {block[0] for block in firsts} == {"1"}
    assert {name for block in firsts for name in block[1:]} == {"0", "1", "2"}


class Settled:
    """A timer that only says when it settles."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def settle(self) -> None:
        self.told.append("settle")


@pytest.mark.parametrize("alternating", [False, True])
def test_groups_of_two_processes_share_the_places_of_a_block(alternating: bool) -> None:
    """The device is settled before each of them, and `order` is the place in the block; others settle once."""
    bench, told = Bench(3, 2), list[str]()
    for g, group in enumerate(bench.groups):
        bench.groups[g] = [
            Candidate(one.columns, lambda count, g=g: told.append(str(g)) or bench.time(count)) for one in group
        ]
    timer: Any = Settled(told)
    rows = interleave(bench.groups, 8, 8, random.Random(0), Sampler(), timer, alternating=alternating)
    settled = told[1:] if alternating else told  # one at the start in any case
    blocks = [settled[first : first + 7] for first in range(0, len(settled), 7)] if alternating else []
    assert told[0] == "settle" and told.count("settle") == 1 + 16 * alternating
    for block in blocks:
        assert block in (["settle", "0", "0", "0", "settle", "1", "1"], ["settle", "1", "1", "settle", "0", "0", "0"])
    for block in range(8):
        places = [row["order"] for row in rows if row["block"] == block]
        assert sorted(map(int, map(str, places))) == ([0, 1, 2, 3, 4] if alternating else [0, 0, 1, 1, 2])


def test_the_order_is_that_of_its_source() -> None:
    """The same seed gives the same order, and another seed another."""
    assert Bench(4).run(8, 4, seed=1) == Bench(4).run(8, 4, seed=1)
    names = [[row["name"] for row in Bench(4).run(8, 4, seed)] for seed in (1, 2)]
    assert names[0] != names[1]


def test_the_gpus_state_is_read_after_each_group() -> None:
    """Rows of one group in one block share a reading, and no others do."""
    rows = Bench(2, 1).run(iters=6, blocks=3)
    readings = {(row["block"], row["group"]): set() for row in rows}
    for row in rows:
        readings[row["block"], row["group"]].add((row["sm_clock_mhz"], row["temperature_c"], row["throttle_bits"]))
    assert all(len(seen) == 1 for seen in readings.values())
    assert len(set.union(*readings.values())) == 3 * 2
    assert min(int(str(row["sm_clock_mhz"])) for row in rows) == 1990 - 10 * 6  # one reading a group and block


def test_columns_name_the_candidate_in_every_row() -> None:
    """A row is what names the candidate, where it stood, its time, and the state."""
    (row,) = Bench(1).run(1, 1)
    assert set(row) == {
        *("group", "name", "block", "order", "value_ns"),
        *("sm_clock_mhz", "temperature_c", "power_w", "throttle_bits"),
    }


def test_a_replicates_facts_are_of_all_its_rows() -> None:
    """The lowest and highest clock, the highest temperature, and every reason for throttling that was seen."""
    rows: list[Row] = [
        {"sm_clock_mhz": 1980, "temperature_c": 60, "throttle_bits": 1},
        {"sm_clock_mhz": 1500, "temperature_c": 65, "throttle_bits": 4},
        {"sm_clock_mhz": 1995, "temperature_c": None, "throttle_bits": 0},
        {"oracle_error": 0.1},  # a row that judges has no state
    ]
    assert replicate_facts(2, 1.23456, rows) == Replicate(
        process=2,
        duration_s=1.235,
        sm_clock_min_mhz=1500,
        sm_clock_max_mhz=1995,
        throttle_bits=5,
        sm_clock_start_mhz=None,
        waited_clock_s=0.0,
    )


@pytest.mark.parametrize("rows", [[], [{"sm_clock_mhz": None, "temperature_c": None, "throttle_bits": None}]])
def test_what_nvml_does_not_tell_is_unknown(rows: list[Row]) -> None:
    """Without a reading nothing is said: no throttling is another fact than none that was seen."""
    facts = replicate_facts(0, 1.0, rows)
    assert facts.sm_clock_min_mhz is facts.sm_clock_max_mhz is facts.throttle_bits is None
    seen = replicate_facts(0, 1.0, [{"sm_clock_mhz": 1, "temperature_c": 2, "throttle_bits": 0}])
    assert seen.throttle_bits == 0
