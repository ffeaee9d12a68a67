"""What goes wrong around a run: one line says what happened and what to do, and the rest goes on (docs/faults.md)."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from project import CLAIM, Project

from nsa.records import parquet
from nsa.records.decode import DecodeFacts
from nsa.records.outcome import Failed, Header

TIME = "from nsa.machine.gpus import gpu_lock\nwith gpu_lock(None, print): print('held', flush=True); input()"
IN_A_SMALL_DISK = """
cp -a results kept && mount -t tmpfs -o size=4m tmpfs results && cp -a kept/. results/
{prepare}
shift
"$@"; echo "ended with $?"
{then}
"""
TOO_LONG = 2_000_000_000  # tokens: no machine's memory holds their cache
HANG = """
import time


def _hang(*_: object) -> None:
    time.sleep(600)


VARIANTS["gather"] = _hang
"""


@pytest.fixture
def mounting() -> tuple[str, ...]:
    """The program that runs another where it may mount a disk of its own."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1), which lets a test mount a disk")
    for program in (("unshare", "--mount"), ("unshare", "--map-root-user", "--mount")):
        tried = subprocess.run([*program, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
        if tried.returncode == 0:
            return program
    pytest.skip(f"this system lets no test mount a disk ({tried.stderr.decode().strip()})")


def errors(output: str) -> list[str]:
    """The lines that tell of an error of ours."""
    assert "Traceback" not in output
    return [line for line in output.splitlines() if line.startswith("error: ")]


def test_braces_in_a_folders_name_are_refused(clone: Project, tmp_path: Path) -> None:
    """Snakemake takes what stands in them for a name, in every command of a rule."""
    result = clone.copy(tmp_path / "nsa {v2}").run("--dry-run")
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert f"error: got a folder with braces in its path, {tmp_path}/nsa {{v2}}, expected none" in result.stderr


def test_a_run_without_a_core_is_refused(clone: Project) -> None:
    """Snakemake alone waits for ever, and says nothing."""
    result = clone.snakemake("--cores", "0", prefix=("timeout", "60"))
    assert result.returncode == 1
    assert "error: --cores: got 0, expected a whole number of at least 1, or all" in result.stderr


def test_a_second_run_in_the_same_folder_is_refused(project: Project) -> None:
    """Two runs do not write each other's stamps and results, and a killed run needs no `--unlock`."""
    with project.holding(CLAIM) as other:
        both = [project.start(), project.start("--dry-run")]  # each waits for a moment
        refused = [run.end() for run in both]
        other.kill()  # its lock goes with it, without a word to anybody
    for result in refused:
        assert result.returncode != 0
        (line,) = errors(result.stderr)
        assert line.startswith(f"error: results: process {other.pid} is running the pipeline here")
        assert line.endswith("run again")
    assert project.planned() == set()


def test_a_run_elsewhere_on_the_same_device_is_waited_for(project: Project) -> None:
    """Two runs do not time each other, and the one that waits says so at the console."""
    cell = project.root / "results/decode/sdpa/S128.parquet"
    cell.unlink()
    with project.holding(TIME) as other:
        run = project.start(str(cell.relative_to(project.root)), forks=True)
        told = run.says("waiting for ")  # at the console, not in the log
        assert told.startswith(f"waiting for cpu-timing: process {other.pid} is timing on it")
        assert not cell.exists()
        other.communicate("\n")
        ended = run.end()
    assert ended.returncode == 0 and cell.exists()


def test_out_of_memory_at_one_context_leaves_the_others(project: Project) -> None:
    """One context too many costs its own line only."""
    project.configure(contexts=[128, TOO_LONG], max_context=TOO_LONG)
    result = project.run("results/decode_sdpa.parquet")
    assert result.returncode == 0, result.stdout + result.stderr
    table = parquet.read_table(project.root / "results/decode_sdpa.parquet")
    fits, too_long = table.to_pylist()
    assert (fits["S"], fits["status"]) == (128, "ok") and fits["ms_total"] > 0
    assert (too_long["S"], too_long["status"], too_long["ms_total"]) == (TOO_LONG, "oom", None)
    assert "can't allocate memory" in too_long["reason"] and "decode.batch" in too_long["fix"]


def test_a_hanging_kernel_is_killed_in_time(project: Project) -> None:
    """A kernel that never ends does not hold the GPU until somebody looks."""
    project.append("nsa/kernels/sdpa/packed.py", HANG)
    project.configure(decode={"timeout_s": 4})
    cell = "results/decode/sdpa/S128.parquet"
    result = project.run(cell)
    assert result.returncode == 0, result.stdout + result.stderr
    table, header = parquet.read(project.root / cell, Header[DecodeFacts])
    assert table.num_rows == 0
    assert isinstance(header.outcome, Failed)
    assert header.outcome.reason == "it did not end within 4 s and was killed"
    assert "raise timeout_s" in header.outcome.fix


def test_a_corrupt_record_is_named_and_made_again(project: Project) -> None:
    """A damaged file is INVALID in the report, does not count, and is made again once it is deleted."""
    cell, gate = (project.root / "results" / name for name in ("decode/sdpa/S128.parquet", "gate.json"))
    cell.write_bytes(cell.read_bytes()[:1000])
    assert project.planned() == {"report"}
    assert project.run().returncode == 0
    row = next(row for row in json.loads(gate.read_text())["decode"] if row["backend"] == "sdpa")
    assert row["status"] == "invalid" and "S128.parquet" in row["reason"] and row["fix"].startswith("delete ")
    cell.unlink()
    assert project.planned() == {"decode sdpa 128", "report"}


@pytest.mark.parametrize(
    ("prepare", "then", "said"),
    [
        (
            "dd if=/dev/zero of=results/fill bs=1k 2> /dev/null",
            'rm results/fill; "$@"; echo "then with $?"',
            "results/decode_sdpa.parquet: cannot be written (No space left on device)",
        ),
        (
            "mount -o remount,ro results",
            "",  # nothing was written, and nothing is to be made up for
            "results: cannot be written (Read-only file system)",
        ),
    ],
    ids=["full disk", "read-only results"],
)
def test_a_disk_that_takes_nothing_is_one_line(
    prepare: str, then: str, said: str, project: Project, mounting: tuple[str, ...]
) -> None:
    """A full or read-only disk ends in one line and no half record, and the next run goes on."""
    script = IN_A_SMALL_DISK.format(prepare=prepare, then=then)
    result = project.snakemake("results/decode_sdpa.parquet", prefix=(*mounting, "bash", "-c", script, "bash", "--"))
    output = result.stdout + result.stderr
    (line,) = errors(output)
    assert said in line and "expected a writable folder" in line
    assert "ended with 1\n" in output and ("then with 0\n" in output or not then)


@pytest.mark.parametrize("umask", ["002", "077"])
def test_who_may_change_results_is_the_users_choice(umask: str, project: Project) -> None:
    """Every file and folder that a run makes has the mode that the umask gives: a group's second user can run again."""
    kept = project.root / "results"
    shutil.rmtree(kept)
    closed = int(umask, 8)
    result = project.start("results/decode_cuda.parquet", forks=True, umask=closed).end()
    assert result.returncode == 0, result.stdout + result.stderr
    modes = {path.relative_to(kept): path.stat().st_mode & 0o777 for path in kept.rglob("*")}
    assert len(modes) > 10 and Path("decode/cuda/S128.parquet") in modes
    wrong = {str(path): oct(mode) for path, mode in modes.items() if mode & 0o666 != 0o666 & ~closed}
    assert wrong == {}
