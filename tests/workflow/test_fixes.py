"""What `nsa doctor` advises ends the state that it was advised for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project


def follow(project: Project, *lines: str) -> None:
    """Do what lines of the doctor's say: delete or move what they name, then run what they name, each command once."""
    for command in dict.fromkeys(command for line in lines for command in clear(project, line)):
        result = project.run(*command.split())
        assert result.returncode == 0, result.stdout + result.stderr


def clear(project: Project, line: str) -> list[str]:
    """Delete or move what a line names; the arguments of Snakemake in the commands that are to follow."""
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
    return re.findall(r"`snakemake(.*?)`", fix)


def results(project: Project) -> Path:
    """The folder that is in some state."""
    return project.root / "results"


def faults(project: Project) -> list[str]:
    """The doctor's lines but for notes, and none of a sound folder."""
    lines = project.nsa("doctor").stdout.splitlines()
    return [line for line in lines if "; a note: " not in line and line != "results: sound"]


def no_folder(project: Project) -> None:
    project.configure(candidates=[])  # all that there is will be made again
    shutil.rmtree(results(project))
    results(project).write_text("notes of mine")


def dangling(project: Project) -> None:
    project.configure(candidates=[])
    shutil.rmtree(results(project))
    results(project).symlink_to(project.root / "tmp" / "nowhere")


def edited(project: Project) -> None:
    project.append("nsa/report/page/plots.py")


def touched(project: Project) -> None:
    """What Snakemake takes for new is not of today's sources."""
    project.append("nsa/kernels/fa2/package.py")
    assert project.run("--touch").returncode == 0


def measured_again(project: Project) -> None:
    cell = "results/decode/cuda/S128.parquet"
    (project.root / cell).unlink()
    assert project.run(cell).returncode == 0


def spoilt_report(project: Project) -> None:
    (results(project) / "gate_report.html").write_text("x")
    (results(project) / "figures" / "decode_breakdown.png").unlink()


def broken_files(project: Project) -> None:
    """Each with a fix of its own."""
    (results(project) / "dram_sdpa.json").write_text("{")
    (results(project) / "gate.json").write_text("{")
    (results(project) / ".stamps" / "report.json").write_text("{")
    for folder in ("accepted", "history"):
        (project.root / folder).mkdir(exist_ok=True)
        (project.root / folder / "nvidia-h200.parquet").write_text("PAR1 cut short")


STATES: dict[str, tuple[Callable[[Project], object], int]] = {  # and of how many files the doctor says something
    "spoilt report": (spoilt_report, 2),
    "broken files": (broken_files, 5),
    "edited source": (edited, 1),
    "touched": (touched, 1),
    "cell measured again": (measured_again, 1),
    "no folder": (no_folder, 1),
}


@pytest.mark.parametrize("state", STATES)
def test_a_fix_ends_the_state_that_provoked_it(state: str, project: Project) -> None:
    """Who follows the lines has a sound folder, and a report that nothing needs to be done for."""
    change, count = STATES[state]
    change(project)
    found = faults(project)
    assert len({line.partition(": ")[0] for line in found}) >= count, found
    follow(project, *found)
    assert faults(project) == []
    assert project.planned() == set()


@pytest.mark.parametrize("state", [no_folder, dangling])
def test_a_run_without_a_folder_says_what_the_doctor_says(state: Callable[[Project], None], project: Project) -> None:
    """What stands in the way is named where somebody meets it."""
    state(project)
    (line,) = faults(project)
    result = project.run()
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1] == "error: " + line.removesuffix("; then run `snakemake`")
    clear(project, line)
    assert "environment" in project.planned()  # nothing stands in the way


def test_a_checkout_that_was_copied_needs_nothing(finished: Project, tmp_path: Path) -> None:
    """`cp -r` gives every file a new date, and takes Snakemake's metadata along."""
    subprocess.run(["cp", "-r", str(finished.root), str(tmp_path / "copy")], check=True)
    copy = Project(tmp_path / "copy")
    assert faults(copy) == []
    assert copy.planned() == set()


def test_a_compiler_that_is_gone_is_named_and_concerns_what_it_built(project: Project) -> None:
    """Without nvcc the extension and what is measured of it are stale; packed SDPA and Triton are as they were."""
    compiler = project.root / "tmp" / "nvcc"
    compiler.write_text("#!/bin/sh\necho release 99.1, V99.1.2\n")
    compiler.chmod(0o755)
    made = project.run(environ={"PATH": f"{compiler.parent}:{os.defpath}"})
    assert made.returncode == 0, made.stderr
    assert "nvcc 99.1.2 → none; a note" in project.nsa("doctor").stdout
    found = faults(project)
    assert found and all("cuda" in line.partition(": ")[0] for line in found), found
    assert {job for job in project.planned() if "sdpa" in job or "triton" in job} == set()
    follow(project, *found)
    assert faults(project) == [] and "nvcc" not in project.nsa("doctor").stdout
    assert project.planned() == set()


def test_a_run_of_another_configfile_ends_with_what_the_note_says(project: Project) -> None:
    """It is sound, and what is noted of config.yaml makes config.yaml's own run of it."""
    (project.root / "mine.yaml").write_text("candidates: [fa2]\n")
    assert project.run("--configfile", "mine.yaml").returncode == 0
    assert faults(project) == []
    note, sound = project.nsa("doctor").stdout.splitlines()
    assert note.startswith("config.yaml: ") and sound == "results: sound"
    follow(project, note)
    assert project.nsa("doctor").stdout == "results: sound\n"
    assert project.planned() == set()


def test_what_check_advises_without_a_report_makes_one(project: Project) -> None:
    """Its command writes the file that was not there."""
    (results(project) / "gate.json").unlink()
    said = project.nsa("check")
    assert said.returncode == 2
    (command,) = re.findall(r"run `snakemake (\S+)` first", said.stderr)
    assert project.run(command).returncode == 0
    assert project.nsa("check").returncode == 3
