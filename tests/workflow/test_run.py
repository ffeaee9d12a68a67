"""What a run of the pipeline leaves behind, whole or broken."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from project import Project

from nsa.records import parquet


def test_a_run_writes_the_report(finished: Project) -> None:
    """A run makes what the guide promises, with an honest verdict of a CPU."""
    results = finished.root / "results"
    for name in ("gate_report.md", "gate_report.html", "gate.json", "decode.csv", "figures/decode_breakdown.png"):
        assert (results / name).stat().st_size > 0, name
    assert json.loads((results / "gate.json").read_text())["invest"]["verdict"] == "NOT MEASURED"  # on a CPU


def test_snakemakes_own_report_has_captions_categories_and_figures(finished: Project, tmp_path: Path) -> None:
    """`snakemake --report` shows the page, the figure and the tables, each in its category with what it is."""
    archive = tmp_path / "report.zip"
    result = finished.start("--report", str(archive)).end()
    assert result.returncode == 0, result.stderr
    with zipfile.ZipFile(archive) as whole:
        names = whole.namelist()
        page = whole.read("report/report.html").decode()
    for name in ("gate_report.html", "decode.csv", "gate.json", "decode_breakdown.svg"):
        assert any(Path(found).name == name for found in names), name
    for text in ("1. Verdicts", "2. Figures", "3. Data", "Both gates with their intervals"):
        assert text in page


def test_an_unavailable_backend_has_an_honest_record(finished: Project) -> None:
    """A backend that cannot run stops nothing, and no other runs in its name."""
    table = parquet.read_table(finished.root / "results" / "decode_cuda.parquet")
    (row,) = table.to_pylist()
    assert (row["backend"], row["status"], row["ms_total"]) == ("cuda", "unavailable", None)
    assert row["reason"]


def test_nothing_runs_twice(finished: Project) -> None:
    """Looking at a finished report costs no measurement."""
    assert finished.planned() == set()


@pytest.mark.parametrize("text", ["", "\nraise RuntimeError('broken on purpose')\n"], ids=["good", "failed"])
def test_a_run_ends_with_its_last_job(text: str, project: Project) -> None:
    """No timer of Snakemake's keeps it, however long its limit on the rate of jobs is."""
    project.append("nsa/bench/decode/stage.py", f"\n# edited\n{text}")
    run = project.start("results/decode/cuda/S128.parquet", "--max-jobs-per-timespan", "100/5m", forks=True)
    try:
        assert (run.end(timeout_s=60).returncode == 0) == (not text)
    finally:
        run.process.kill()


def test_a_broken_report_leaves_the_last_good_one(project: Project) -> None:
    """Snakemake deletes a rule's outputs before it runs; the last good report is kept all the same."""
    good = (project.root / "results" / "gate_report.md").read_text()
    project.append("nsa/report/page/tables.py", "\nraise RuntimeError('broken on purpose')\n")
    result = project.run()
    assert result.returncode != 0
    assert "broken on purpose" in result.stdout + result.stderr  # the failed job's log is shown
    kept = [path for path in (project.root / "results").rglob("*.md") if path.read_text() == good]
    assert kept


def test_an_installed_copy_does_not_stand_for_the_sources(project: Project, tmp_path: Path) -> None:
    """Stamps are of the sources beside the Snakefile, and jobs run these, whatever package is installed."""
    shutil.copytree(project.root / "nsa", tmp_path / "site" / "nsa")
    with (tmp_path / "site" / "nsa" / "__init__.py").open("a") as installed:
        installed.write("\nraise SystemExit('the installed copy was imported')\n")
    cell = "results/decode/cuda/S128.parquet"
    (project.root / cell).unlink()
    result = project.snakemake(cell, environ={"PYTHONPATH": str(tmp_path / "site")}, python=("-P",))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "environ", "named"),
    [
        (["--config", "contexts=[0]"], {}, "contexts"),
        (["--config", "decode={iters: x}"], {}, "decode.iters"),
        (["--config", "colour=red"], {}, "colour"),
        ([], {"NSA_SEL_CUDA": "yes"}, "NSA_SEL_CUDA"),
    ],
)
def test_a_wrong_setting_is_one_line_and_changes_nothing(
    arguments: list[str], environ: dict[str, str], named: str, finished: Project
) -> None:
    """A typing error ends in one line, and in no result of some other setting."""
    before = contents(finished.root / "results")
    result = finished.run(*arguments, environ=environ)
    assert result.returncode != 0
    said = [line for line in result.stderr.splitlines() if not line.startswith(("Using ", "Config file "))]
    assert len(said) == 1 and said[0].startswith("error: ") and named in said[0]
    assert contents(finished.root / "results") == before


def test_an_error_names_the_place_that_the_value_comes_from(project: Project) -> None:
    """The command line, a file of --configfile with its line, or config.yaml with its own."""
    (project.root / "mine.yaml").write_text("decode: {iters: 3}\ncheck: {seeds: 0}\n")
    (project.root / "twice.yaml").write_text("device: cpu\ndevice: cuda\n")
    cases = {
        ("--config", "contexts=[0]"): "error: --config: contexts.0: got 0",
        ("--configfile", "mine.yaml"): "error: mine.yaml: check.seeds: got 0",
        ("--configfile", "twice.yaml"): "error: twice.yaml: line 2: got 'device' again",
    }
    for arguments, said in cases.items():
        assert said in project.run("--dry-run", *arguments).stderr
    project.append("config.yaml", "broken: [1\n")
    result = project.run("--dry-run")
    assert result.returncode != 0 and "error: config.yaml: is not YAML: line " in result.stderr


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of a folder and what is in it."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_unknown_backend_is_refused(finished: Project) -> None:
    """A misspelt backend gets as far as no job."""
    result = finished.run("--dry-run", "results/decode_kuda.parquet")
    assert result.returncode != 0
    assert "No rule to produce results/decode_kuda.parquet" in result.stdout + result.stderr


@pytest.mark.skipif(
    find_spec("snakemake_executor_plugin_slurm") is not None,
    reason="Snakemake imports every plugin, and this one pandas",
)
def test_planning_loads_nothing_heavy(finished: Project) -> None:
    """`snakemake -n` imports nothing that only the jobs need."""
    result = finished.snakemake("--dry-run", python=("-X", "importtime"))
    assert result.returncode == 0
    assert set(re.findall(r"\| +(torch|triton|pandas|pyarrow|scipy|matplotlib)$", result.stderr, re.MULTILINE)) == set()
