"""Each blocking check of a decode cell fires on its fault and on nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import GPU
from synthetic_cell import decode_facts, judged, launches

from nsa.records import parquet
from nsa.records.decode import Reads
from nsa.records.made import ChecksHeader
from nsa.records.outcome import Invalid, Ok, OutOfMemory, Stale
from nsa.report.analysis.aa import controls
from nsa.report.analysis.read import Record, read_cell
from nsa.report.analysis.stats import Estimate
from nsa.report.analysis.summary import summarise
from nsa.report.verdict.checks import CHECKS, Check, aa_control, blocking_checks, record_checks, write
from nsa.report.verdict.words import BLOCKING, WARNING

if TYPE_CHECKING:
    from nsa.records.decode import DecodeFacts
    from tests.report.conftest import Lab

SOUND = judged(0)
READS = Reads(cmp=127.0, sel=1024.0, win=512.0, actual=1663.0, expected=1663.0)


def reads(actual: float) -> Reads:
    """Reads that were counted."""
    return READS.model_copy(update={"actual": actual, "sel": actual - READS.cmp - READS.win})


def checks_of(lab: Lab, **cell: object) -> dict[str, Check]:
    """The checks of one cell by name."""
    return {check.name: check for check in lab.run([lab.cell(**cell)]).checks}


def fired(lab: Lab, **cell: object) -> dict[str, str]:
    """The severities of the checks that fired on one cell, by name."""
    return {name: check.severity for name, check in checks_of(lab, **cell).items() if check.fired}


def test_a_sound_cell_fires_nothing(lab: Lab) -> None:
    """Every check is made and kept on a sound cell, and none cries."""
    checks = checks_of(lab, iters=12)
    assert [check for check in checks.values() if check.fired] == []
    assert len(checks) == 27


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("reads_differ", {"facts": {"reads": reads(1662.5)}}),
        ("backend_substituted", {"alter": ({"process": 1}, {"backend_resolved": "math"})}),
        ("routing_wrong", {"facts": {"routing_fault": "S = 9: chose blocks [1], expected [0]"}}),
        ("output_not_finite", {"facts": {"outputs_finite": False}}),
        ("step_wrong", {"facts": {"judged": (judged(0), judged(1, outputs={**SOUND.outputs, "win": 2.1e-2}))}}),
        ("step_wrong", {"facts": {"judged": (judged(0, outputs={**SOUND.outputs, "win": None}), judged(1))}}),
        ("step_wrong", {"facts": {"judged": (judged(0), judged(1, outputs={"all": 0.0}))}}),
        ("cache_wrong", {"facts": {"judged": (judged(0, states={"k_cmp": 2.1e-2}), judged(1))}}),
        ("cache_wrong", {"facts": {"judged": (judged(0, states={"k_cmp": None}), judged(1))}}),
        ("cache_wrong", {"facts": {"judged": (judged(0), judged(1, lengths_right=False))}}),
        ("cache_wrong", {"facts": {"judged": (judged(0), judged(1, caches_kept=False))}}),
        ("blocks_wrong", {"facts": {"judged": (judged(0), judged(1, wrong=1))}}),
        ("blocks_close", {"facts": {"judged": (judged(0, clear=250), judged(1))}}),
        ("skipped_part_launched", {"facts": {"launches": {**launches(), "none": launches()["win"]}}}),
        ("skipped_part_launched", {"facts": {"launches": None}}),
        ("below_memory_floor", {"facts": {"bandwidth_bytes_per_s": (4e9, 4e9, 4e9)}}),
        ("impossible_share", {"parts": {"sel": -0.005}}),
        ("impossible_share", {"parts": {"cmp": -0.08, "fixed": 0.1}}),
    ],
)
def test_a_blocking_fault_fires_its_check_alone(lab: Lab, name: str, cell: dict[str, object]) -> None:
    """One fault fires one check, which blocks."""
    assert fired(lab, iters=12, **cell) == {name: BLOCKING}


def test_aa_control_fires_when_the_same_arm_differs(lab: Lab) -> None:
    """An arm that differs from itself blocks the cell, with the ratio and its confidence."""
    slower = ({"arm": "all_again", "mode": "graph", "cache_state": "cold"}, {"value_ns": 99_500})
    check = checks_of(lab, alter=slower)["aa_control"]
    assert check.fired
    assert check.observed == pytest.approx(99.5 / 96.125, rel=5e-3)
    assert "at 95 % confidence as the run's A/A controls are 1" in check.message


def test_one_tick_of_the_clock_in_every_process_is_no_bias(lab: Lab) -> None:
    """Two names of an arm that differ by 0.5 µs in all ten processes do not differ; by 2 % they do."""
    for again, blocks in ((96_500, False), (95_500, False), (97_920, True)):
        found = fired_with(lab, again)
        assert ("aa_control" in found) is blocks, again


def fired_with(lab: Lab, again_ns: int) -> dict[str, str]:
    """The checks that fire where every time of arm all is 96 µs, and every one of its control so many ns."""
    cell = read_cell(lab.cell(processes=10, iters=12), lab.stamps)
    graph = (cell.rows["mode"] == "graph") & (cell.rows["cache_state"] == "cold")
    for arm, value in (("all", 96_000), ("all_again", again_ns)):
        cell.rows.loc[graph & (cell.rows["arm"] == arm), "value_ns"] = value
    found = summarise([cell], 0.95)[0].figures
    assert found is not None
    control = controls({"cell": (GPU, found.arms.aa_ratio)}, 0.95)["cell"]
    checks = blocking_checks(cell, found, control)
    return {check.name: check.severity for check in checks if check.fired}


def test_aa_control_blocks_at_the_confidence_of_the_whole_run() -> None:
    """A plain interval beside 1 is what one sound cell of twenty has; of eight cells it blocks none."""
    ratio = (GPU, Estimate(1.01, 1.001, 1.019, 10))
    runs = [controls({str(cell): ratio for cell in range(count)}, 0.95) for count in (1, 8)]
    alone, among = (aa_control("sdpa/S128", run["0"], BLOCKING) for run in runs)
    assert (alone.fired, among.fired) == (True, False)
    assert "at 99.38 % confidence as the run's A/A controls are 8" in among.message


def test_aa_control_says_nothing_of_one_process(lab: Lab) -> None:
    """A control of one process has no interval, and fires nothing."""
    assert not checks_of(lab, processes=1)["aa_control"].fired


def test_reads_are_equal_up_to_the_rounding_of_an_average(lab: Lab) -> None:
    """Averages over ragged sequences are floats: their rounding is no difference."""
    assert "reads_differ" not in fired(lab, facts={"reads": reads(1663 * (1 + 1e-15))})


def test_no_bandwidth_makes_no_floor(lab: Lab) -> None:
    """Where the bandwidth was not measured there is no floor to be below, which blocks on a GPU."""
    assert fired(lab, iters=12, facts={"bandwidth_bytes_per_s": ()}) == {"fact_missing": BLOCKING}
    assert "below_memory_floor" not in checks_of(lab, facts={"bandwidth_bytes_per_s": ()})


def test_the_floor_is_that_of_the_fastest_copy(lab: Lab) -> None:
    """A step may take the time of the best bandwidth that any process measured."""
    assert not checks_of(lab, facts={"bandwidth_bytes_per_s": (4e9, 4e12, 4e9)})["below_memory_floor"].fired


def test_wrong_reads_block_on_a_cpu_too(lab: Lab) -> None:
    """Reads are no time: they are as wrong on a CPU as on a GPU."""
    assert fired(lab, device="cpu", facts={"reads": reads(1.0)})["reads_differ"] == BLOCKING


def test_times_of_a_cpu_block_nothing(lab: Lab) -> None:
    """CPU times decide nothing, so the checks on them warn."""
    checks = checks_of(lab, device="cpu", noise=0.3, S=128, parts={"sel": -0.02})
    assert {check.name for check in checks.values() if check.severity == WARNING} >= {"spread", "aa_control"}
    assert not [check for check in checks.values() if check.blocks]


def record(outcome: Ok[DecodeFacts] | Stale | Invalid | OutOfMemory) -> Record[DecodeFacts]:
    """A record that ended so."""
    return Record("sdpa", "sdpa/S128", outcome)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Invalid(reason="why", fix="f"), [BLOCKING]),
        (Stale(reason="why", fix="f"), [WARNING]),
        (OutOfMemory(reason="why", fix="f"), []),
        (Ok(facts=decode_facts(128, "cuda", 1)), []),
    ],
)
def test_record_checks_name_invalid_and_stale_records(
    outcome: Ok[DecodeFacts] | Stale | Invalid | OutOfMemory, expected: list[str]
) -> None:
    """A record that cannot be read blocks, a stale one warns, and one that did not run is no anomaly."""
    assert [check.severity for check in record_checks(record(outcome)) if check.fired] == expected


def test_the_checks_table_keeps_what_did_not_fire(lab: Lab) -> None:
    """Checks that did not fire are rows, too."""
    checks = list(checks_of(lab).values())
    write(lab.layout.checks, checks)
    table, _ = parquet.read(lab.layout.checks, ChecksHeader, CHECKS)
    assert (table.num_rows, sum(table["fired"].to_pylist())) == (len(checks), 0)


def test_a_cell_that_was_not_judged_fires_every_check_that_needs_it(lab: Lab) -> None:
    """A record without any judged step proves nothing of its arms."""
    found = fired(lab, iters=12, facts={"judged": ()})
    assert found == dict.fromkeys(("step_wrong", "cache_wrong", "blocks_wrong"), BLOCKING)


def test_two_rows_may_always_be_close(lab: Lab) -> None:
    """A CPU's few rows are not blocked by a coincidence."""
    few = (judged(0, rows=16, clear=14),)
    assert "blocks_close" not in fired(lab, iters=12, facts={"judged": few})
    assert "blocks_close" in fired(lab, iters=12, facts={"judged": (judged(0, rows=16, clear=13),)})
