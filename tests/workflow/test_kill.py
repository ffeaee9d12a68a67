"""Snakemake or a child of it is killed at random moments: nothing half-made counts, and all is made up for.

Who is killed, and whether a job is at work by then, takes turns, so that few kills are enough to meet all of it.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pytest
from project import Project

from nsa.records import files, parquet

RUNS = 2  # at a time, each in a folder of its own
KILLS = int(os.environ.get("NSA_TEST_KILLS", "6"))  # each of TRIES in both runs; more on demand
SEED = int(os.environ.get("NSA_TEST_SEED", time.time_ns() % 10_000))
SNAKEMAKE, CHILD = "snakemake", "a child"
TRIES = ((True, CHILD), (True, SNAKEMAKE), (False, SNAKEMAKE))  # whether a job is waited for, and who is killed
LATEST_S = 1.5  # after Snakemake was started, or after its first job was
GONE_S = 5  # until a killed run's children are gone
HANGS = """
import pathlib, time


def _hang(*_: object) -> None:
    pathlib.Path("hangs").touch()
    time.sleep(600)


VARIANTS["gather"] = _hang
"""
UNDONE = 2  # records that are to be made in each run


def test_a_run_survives_any_kill(finished: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kill leaves no half record that counts, no benchmark on the GPU, and no lock that nobody holds."""
    projects = [finished.copy(tmp_path / str(place)) for place in range(RUNS)]
    with ThreadPoolExecutor(RUNS) as pool:
        killed = sum(pool.map(survive, projects, range(SEED, SEED + RUNS), [-(-KILLS // RUNS)] * RUNS), Counter())
    with capsys.disabled():
        print(f"\nNSA_TEST_SEED={SEED}: killed {dict(killed)}", end=" ")
    assert killed.total() >= KILLS and min(killed[SNAKEMAKE], killed[CHILD]) > 0
    for project in projects:
        assert project.planned() == set()
        assert outcome(project) == outcome(finished)
        assert list((project.root / "results").rglob(f".*{files.TEMPORARY}")) == []


def test_a_hanging_kernel_does_not_survive_its_run(project: Project) -> None:
    """The kernel of a killed run does not hold the GPU for as long as it hangs."""
    project.append("nsa/kernels/sdpa/packed.py", HANGS)
    run = project.start("results/decode/sdpa/S128.parquet")
    while not (project.root / "hangs").exists():
        assert run.process.is_alive()
        time.sleep(0.05)
    run.process.kill()
    left = survivors(project)
    for process in left:
        process.kill()
    assert left == []


def survive(project: Project, seed: int, kills: int) -> Counter[str]:
    """Run and kill so often, then run once more to the end; how often who was killed."""
    draw, killed, tries = random.Random(seed), Counter[str](), cycle(TRIES)
    while killed.total() < kills:
        at_work, victim = next(tries)
        undo(project, draw)
        run = project.start()
        if at_work:
            wait_for_a_job(run.pid)
        time.sleep(draw.uniform(0, LATEST_S))
        killed.update(kill(run.pid, victim))
        ended = run.end(timeout_s=60)  # with the last process that has the run's console
        assert "Traceback" not in ended.stdout + ended.stderr
        assert survivors(project) == []
        readable(project.root / "results")
    result = project.run()  # plain: nothing to unlock, nothing to clean
    assert result.returncode == 0, result.stdout + result.stderr
    return killed


def undo(project: Project, draw: random.Random) -> None:
    """Take away a few records, so that the next run has something to do."""
    results = project.root / "results"
    found = [*results.glob("decode/*/*.parquet"), *results.glob("*_*.parquet"), *results.glob("dram_*.json")]
    others = ("build/cuda.json", "tune/triton.json", "gate.json")
    found += [results / name for name in others if (results / name).exists()]
    for path in draw.sample(sorted(found), min(UNDONE, len(found))):
        path.unlink()


def wait_for_a_job(pid: int) -> None:
    """Return when this Snakemake has a child, or has ended."""
    with suppress(psutil.NoSuchProcess):
        snakemake = psutil.Process(pid)
        while snakemake.status() != psutil.STATUS_ZOMBIE and not snakemake.children():
            time.sleep(0.02)


def kill(pid: int, victim: str) -> list[str]:
    """Kill this process or its last descendant, itself where it has none; who it was, nobody when it had ended."""
    with suppress(psutil.NoSuchProcess):  # it, or a child, ended just now
        snakemake = psutil.Process(pid)
        if snakemake.status() == psutil.STATUS_ZOMBIE:
            return []
        killed = [snakemake, *snakemake.children(recursive=True)][0 if victim == SNAKEMAKE else -1]
        killed.kill()
        return [SNAKEMAKE if killed == snakemake else CHILD]
    return []


def survivors(project: Project) -> list[psutil.Process]:
    """The processes that still work in the project, after they had time to go."""
    deadline = time.monotonic() + GONE_S
    while (found := [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == str(project.root)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.05)
    return found


def readable(results: Path) -> None:
    """Every file that has a record's name is a whole record."""
    for path in results.rglob("[!.]*.parquet"):
        parquet.read_table(path)
    for path in results.rglob("[!.]*.json"):
        files.read_json(path)


def outcome(project: Project) -> dict[str, Any]:
    """What the run says that no timing decides: verdicts, statuses, and what was found of each shape."""
    gate = json.loads((project.root / "results/gate.json").read_text())
    check = parquet.read_table(project.root / "results/check_sdpa.parquet")
    return {
        "invest": gate["invest"]["verdict"],
        "accept": {name: (found["verdict"], found["wrong_shapes"]) for name, found in gate["accept"].items()},
        "cells": [(row["backend"], row["S"], row["status"], row["reads_actual"]) for row in gate["decode"]],
        "check": [
            (row["backend"], row["head_dim"], row["seed"], row["fault"], round(row["oracle_error"], 4))
            for row in check.to_pylist()
            if row["case"] is None  # corner cases are drawn anew in each run
        ],
        "corners": sorted({(row["case"], row["fault"]) for row in check.to_pylist() if row["case"] is not None}),
    }
