"""What `nsa doctor` advises ends the state that it was advised for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project


def follow(project: Project, line: str) -> None:
    """Do what a line of the doctor's says: delete or move what it names, then run what it names."""
    where, _, said = line.partition(": ")
    fix = said.rpartition("; ")[2] if "; then run" not in said else said.partition("; ")[2]
    for verb, name in re.findall(r"(delete|move) (\S+?),? ", f"{fix} "):
        path = project.root / (where if name == "it" else name)
        if verb == "move" or path.is_symlink():
            path.rename(project.root / "tmp" / path.name)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for command in re.findall(r"`snakemake(.*?)`", fix):
        result = project.run(*command.split())
        assert result.returncode == 0, result.stdout + result.stderr


def faults(project: Project) -> list[str]:
    """The doctor's lines but for notes, and none of a sound folder."""
    lines = project.nsa("doctor").stdout.splitlines()
    return [line for line in lines if "; a note: " not in line and line != "results: sound"]


def no_folder(results: Path) -> None:
    shutil.rmtree(results)
    results.write_text("notes of mine")


def dangling(results: Path) -> None:
    shutil.rmtree(results)
    results.symlink_to(results.parent / "tmp" / "nowhere")


def touched(results: Path) -> None:
    """As `snakemake --touch` leaves a record that is not of today's sources."""
    with (results.parent / "nsa" / "report" / "page" / "plots.py").open("a") as source:
        source.write("\n# edited\n")


STATES: dict[str, Callable[[Path], object]] = {
    "overwritten report": lambda results: (results / "gate_report.md").write_text("x"),
    "deleted figure": lambda results: (results / "figures" / "decode_breakdown.png").unlink(),
    "broken gate.json": lambda results: (results / "gate.json").write_text("{"),
    "broken record": lambda results: (results / "dram_sdpa.json").write_text("{"),
    "edited source": touched,
    "no folder": no_folder,
    "dangling link": dangling,
}


@pytest.mark.parametrize("state", STATES)
def test_a_fix_ends_the_state_that_provoked_it(state: str, project: Project) -> None:
    """Who follows the lines has a sound folder, and a report that nothing needs to be done for."""
    STATES[state](project.root / "results")
    found = faults(project)
    assert found, state
    for line in found:
        follow(project, line)
    assert faults(project) == []
    assert project.planned() == set()
