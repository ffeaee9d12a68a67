"""The statistics keep their promises on simulated runs, in which the truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import bootstrap
from simulation import BLOCKS, Machine, each_run, simulate
from synthetic import GPU
from synthetic_cell import decode_facts

from nsa.records.outcome import Ok
from nsa.report.analysis.aa import controls
from nsa.report.analysis.read import Cell
from nsa.report.analysis.stats import TICK_NS, changed, each_of, log_interval, process_times, rounding
from nsa.report.analysis.summary import CellFigures, arm_figures
from nsa.report.verdict.checks import aa_control
from nsa.report.verdict.warnings import warning_checks
from nsa.report.verdict.words import BLOCKING

CONFIDENCE = 0.95
DECISION = 10  # processes of the decision setting
CONTEXTS = 4  # cells of a run
ARMS_MS = {
    "none": 0.030,
    "cmp": 0.040,
    "cmp_route": 0.046,
    "sel": 0.070,
    "win": 0.042,
    "all": 0.098,
    "all_without_sel": 0.058,
    "all_again": 0.098,
}
TRUTH = {"ms_total": 0.098, "ms_sel": 0.040, "sel_pct": 100 * 0.040 / 0.098, "sel_loo_pct": 100 * 0.040 / 0.098}


CLEAN = Machine(shared=0.003, own=0.002, slope=0.002, walk=0.0003)


@pytest.mark.parametrize("processes", [3, DECISION])
def test_a_95_percent_interval_covers_the_truth_in_92_to_98_percent_of_the_runs(processes: int) -> None:
    """Intervals cover as often as they say, process effects and drift included; a bootstrap of repetitions does not."""
    runs, resampled = 1000, 200
    rows = simulate(processes, runs, processes, ARMS_MS | {"all_again": 1.05 * ARMS_MS["all"]}, Machine())
    found = [vars(arm_figures(times, CONFIDENCE)) for times in each_run(process_times(rows, 0.0), runs)]
    for name, truth in {**TRUTH, "aa_ratio": 1.05}.items():
        covered = np.mean([run[name].low <= truth <= run[name].high for run in found])
        assert 0.92 <= covered <= 0.98, name

    pooled = [rows[rows["arm"] == arm]["value_ns"].to_numpy().reshape(runs, -1) for arm in ("all", "all_again")]
    naive = bootstrap(
        [values[:resampled] for values in pooled],
        lambda all_, again, axis: np.median(again, axis=axis) / np.median(all_, axis=axis),
        axis=1,
        n_resamples=200,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert np.mean((naive.low <= 1.05) & (naive.high >= 1.05)) < 0.65


def verdicts(processes: int, factor: float, paired: bool, cells: int) -> list[str]:
    """What is said of candidates that take `factor` times as long, each in one context of a run."""
    confidence, arms_ms = each_of(CONTEXTS, CONFIDENCE), {"reference": 0.098, "candidate": 0.098 * factor}
    reference = process_times(simulate(1, cells, processes, arms_ms, Machine()), 0.0)
    candidate = reference if paired else process_times(simulate(2, cells, processes, arms_ms, Machine()), 0.0)
    return [
        changed(one["reference"], other["candidate"], confidence, paired=paired).verdict
        for one, other in zip(each_run(reference, cells), each_run(candidate, cells), strict=True)
    ]


def test_injected_slowdowns(capsys: pytest.CaptureFixture[str]) -> None:
    """95 of 100 runs see an arm or a candidate that is 5 % slower, and say so of none that is not; a table is shown."""
    runs, words = 100, ("slower", "faster", "too few replicates", "same")
    lines = [f"of {runs} simulated runs with {CONTEXTS} contexts, so many say of the candidate in one of them:"]
    lines.append(f"{'candidate':<12}{'compared':<16}{'processes':>9}" + "".join(f"{word:>20}" for word in words))
    decisions = []
    for processes in (3, DECISION):
        for paired, name in ((True, "within a run"), (False, "between runs")):
            unchanged = np.reshape(verdicts(processes, 1.0, paired, CONTEXTS * runs), (runs, CONTEXTS))
            said = {"unchanged*": [next(word for word in words if word in run) for run in unchanged]}
            said |= {"5 % slower": verdicts(processes, 1.05, paired, runs)}
            said |= {"5 % faster": verdicts(processes, 1 / 1.05, paired, runs)}
            count = {case: {word: found.count(word) for word in words} for case, found in said.items()}
            decisions += [count] if processes == DECISION else []
            for case, of in count.items():
                lines.append(f"{case:<12}{name:<16}{processes:>9}" + "".join(f"{of[word]:>20}" for word in words))
    with capsys.disabled():
        print("", *lines, "* in all contexts; counted is the leftmost of these words that is said of any", sep="\n")
    for count in decisions:
        assert count["5 % slower"]["slower"] >= 95
        assert count["5 % faster"]["faster"] >= 95
        assert count["unchanged*"]["same"] >= 95


def blocked(runs: int, bias: float = 0.0, corrected: bool = True) -> float:
    """The share of runs of 8 cells in which an A/A control blocks; the bias is that of one of the cells.

    The clock ticks every half microsecond, so that no interval is narrower than that.
    """
    ratios, tick = [], int(TICK_NS)
    least = sum(rounding([98_000, 98_000 + tick]) for _ in ("all", "all again"))
    for seed, cells, factor in ((1, 1, 1 + bias), (2, 7, 1.0)):
        arms_ms = {"all": 0.098, "all_again": 0.098 * factor}
        rows = simulate(seed, runs * cells, DECISION, arms_ms, Machine(own=0.005), 8)
        times = process_times(rows.assign(value_ns=(rows["value_ns"] / tick).round() * tick), 0.0)
        ratios.append((times["all_again"] / times["all"]).to_numpy().reshape(runs, cells, DECISION))
    found = 0
    for run in np.concatenate(ratios, axis=1):
        ratios = {str(place): (GPU, log_interval(cell, CONFIDENCE, least)) for place, cell in enumerate(run)}
        families = [ratios] if corrected else [{name: ratio} for name, ratio in ratios.items()]
        judged = [control for family in families for control in controls(family, CONFIDENCE).values()]
        found += any(aa_control("sdpa/S128", control, BLOCKING).fired for control in judged)
    return found / runs


def test_the_aa_control_blocks_few_sound_runs_and_most_biased_ones() -> None:
    """At most 6 % of sound runs are blocked (an eighth by plain 95 % intervals), 95 % of those with a bias of 2 %."""
    assert blocked(1000) <= 0.06
    assert blocked(200, corrected=False) > 0.1
    assert blocked(200, bias=0.02) >= 0.95


def fired(machine: Machine, processes: int, cells: int = 100) -> list[set[str]]:
    """The warnings that fire on each of some simulated cells."""
    frame = simulate(0, cells, processes, ARMS_MS, machine, 32, kinds=(True, False))
    clocks = 1965 + 15 * np.random.default_rng(0).integers(0, 3, (frame["process"].max() + 1, BLOCKS))
    frame = frame.assign(mode="graph", cache_state="cold", throttle_bits=0)
    frame = frame.assign(sm_clock_mhz=clocks[frame["process"], frame["block"]])
    facts = decode_facts(2048, "cuda", processes)
    found = []
    for rows, times in zip(
        each_run(frame, cells), each_run(process_times(frame, facts.emit_weight), cells), strict=True
    ):
        cell = Cell("sdpa", "sdpa/S2048", Ok(facts=facts), GPU, rows=rows, S=2048)
        figures = CellFigures("sdpa", 2048, facts, arm_figures(times, CONFIDENCE), None, None, None, None, 0)
        found.append({check.name for check in warning_checks(cell, figures) if check.fired})
    return found


@pytest.mark.parametrize("machine", [CLEAN, Machine(iqr=0.015)])
def test_no_warning_fires_on_95_of_100_clean_cells(machine: Machine) -> None:
    """The worst of a sound cell's 20 series is not taken for a noisy one, even where the noise is near the bound."""
    assert sum(not names for names in fired(machine, DECISION)) >= 95


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (replace(CLEAN, iqr=0.04), "spread"),
        (replace(CLEAN, second_mode=0.05), "bimodality"),
        (replace(CLEAN, trend=0.04), "trend"),
    ],
)
def test_a_warning_fires_on_95_of_100_noisy_cells(machine: Machine, name: str) -> None:
    """A noisy cell fires the warning that names its noise."""
    assert np.mean([name in names for names in fired(machine, 3, cells=20)]) >= 0.95
