"""Changed inputs rerun the stages that they affect, and no other: exactly these jobs (docs/reruns.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from expected import ALL, BACKENDS, BUILD, NOTHING, REPORT, TUNE, S, backend, decoded, each
from project import Project, machine


def edit(source: str, text: str = "\n# edited\n") -> Callable[[Project], None]:
    """Add to the end of a source."""
    return lambda project: project.append(source, text)


def configure(**changes: object) -> Callable[[Project], None]:
    """Change config.yaml."""
    return lambda project: project.configure(**changes)


def delete(*files: str) -> Callable[[Project], None]:
    """Delete results."""

    def change(project: Project) -> None:
        for file in files:
            (project.root / "results" / file).unlink()

    return change


def touch_all(project: Project) -> None:
    """Every source looks edited: a checkout."""
    for source in (path for folder in ("nsa", "workflow") for path in (project.root / folder).rglob("*")):
        os.utime(source)


def edit_with_an_old_date(project: Project) -> None:
    """A file restored from an archive."""
    source = project.root / "nsa/report/page/plots.py"
    project.append("nsa/report/page/plots.py")
    os.utime(source, (0, 0))


def lose_metadata(project: Project) -> None:
    """Results that were copied, or cached, without Snakemake's own folder."""
    shutil.rmtree(project.root / ".snakemake")


def lose_metadata_and_edit(project: Project) -> None:
    lose_metadata(project)
    project.configure(decode={"iters": 5})


CASES: dict[str, tuple[Callable[[Project], None], set[str]]] = {
    "nothing": (lambda project: None, NOTHING),
    "every source touched": (touch_all, NOTHING),
    ".cu edited": (edit("nsa/kernels/cuda/csrc/instantiate_dv64.cu", "\n// edited\n"), {BUILD} | backend("cuda")),
    "comment edited": (edit("nsa/kernels/fa2/package.py", "\n# a comment\n"), backend("fa2")),
    "deep module edited": (edit("nsa/shapes.py", "\nEDITED = 1\n"), ALL - {"environment"}),
    "report edited": (edit("nsa/report/page/plots.py", "\nEDITED = 1\n"), REPORT),
    "edited with an old date": (edit_with_an_old_date, REPORT),
    "without metadata": (lose_metadata, NOTHING),
    "without metadata and edited": (lose_metadata_and_edit, decoded(*BACKENDS)),
    "threshold changed": (configure(gates={"accept": {"mae": 1e-3, "speedup": 1.5, "error_ratio": 2.0}}), REPORT),
    "S added": (
        configure(contexts=[S, 256]),
        {f"decode {name} 256" for name in BACKENDS} | REPORT,
    ),
    "iterations changed": (configure(decode={"iters": 5}), decoded(*BACKENDS)),
    "time-out changed": (configure(decode={"timeout_s": 60}), decoded(*BACKENDS)),
    "check seeds changed": (configure(check={"seeds": 2}), each("check") | REPORT),
    "counters skipped": (configure(dram={"ncu": "skip"}), each("dram") | REPORT),
    "build asked for": (configure(build={"cuda": "auto"}), {BUILD} | backend("cuda")),
    "candidate dropped": (configure(candidates=["cuda", "triton"]), REPORT),
    "environment deleted": (delete("environment.json"), ALL),
    "build deleted": (delete("build/cuda.json"), {BUILD} | backend("cuda")),
    "tuning deleted": (delete("tune/triton.json"), {TUNE} | backend("triton")),
    "cell deleted": (delete(f"decode/triton/S{S}.parquet"), decoded("triton")),
    "summary deleted": (delete("decode_cuda.parquet"), NOTHING),
    "check deleted": (delete("check_cuda.parquet"), each("check", ["cuda"]) | REPORT),
    "report deleted": (delete("gate_report.md"), REPORT),
    "gate.json deleted": (delete("gate.json"), REPORT),
    "stamp deleted": (delete(".stamps/decode-sdpa.json"), NOTHING),
}


@pytest.mark.parametrize("case", CASES)
def test_exactly_these_jobs_run_again(case: str, project: Project) -> None:
    """No figure is credited to code or settings that did not make it, and nothing else is measured again."""
    change, expected = CASES[case]
    change(project)
    assert project.planned() == expected


@pytest.mark.parametrize("case", ["cell deleted", "gate.json deleted"])
def test_the_guides_own_command_runs_the_same(case: str, project: Project) -> None:
    """A deleted record is made again by the guide's command as by `snakemake`."""
    change, expected = CASES[case]
    change(project)
    assert project.planned("--cores", "1", "results/gate_report.md") == expected


def test_a_reverted_edit_runs_nothing(project: Project) -> None:
    """Trying something and taking it back costs no measurement."""
    source = project.root / "nsa/bench/method/timing.py"
    original = source.read_bytes()
    project.append("nsa/bench/method/timing.py")
    assert each("decode") <= {job.removesuffix(f" {S}") for job in project.planned()}
    source.write_bytes(original)
    assert project.planned() == NOTHING


def test_a_setting_for_one_run_is_for_one_run(project: Project) -> None:
    """`--config` leaves nothing behind that the next plain run measures for."""
    assert project.planned("--config", "contexts=[128, 256]") == CASES["S added"][1]
    assert project.planned("--config", "gates={accept: {speedup: 1.5}}") == REPORT
    assert project.planned() == NOTHING


def test_a_deletion_taken_back_runs_the_report_at_most(project: Project) -> None:
    """Looking at what a deletion costs brings at most a report."""
    cell = project.root / f"results/decode/fa2/S{S}.parquet"
    kept = cell.with_suffix(".kept")
    cell.rename(kept)
    assert project.planned() == decoded("fa2")
    kept.rename(cell)
    assert project.planned() == REPORT


def test_a_new_context_runs_alone(project: Project) -> None:
    """Asking for one more S measures that one only."""
    assert project.planned("results/decode/sdpa/S256.parquet") == {"decode sdpa 256"}


@pytest.mark.parametrize("metadata", [True, False], ids=["with metadata", "without metadata"])
def test_a_fresh_clone_with_restored_results_runs_nothing(
    metadata: bool, finished: Project, clone: Project, tmp_path: Path
) -> None:
    """Continuous integration measures nothing that it has in its cache."""
    shutil.copy(finished.root / "config.yaml", clone.root / "config.yaml")
    kept = ["results", ".snakemake"] if metadata else ["results"]
    for folder in kept:
        archive = shutil.make_archive(str(tmp_path / "archive"), "tar", finished.root, folder)
        shutil.unpack_archive(archive, clone.root, "tar", filter="fully_trusted")
    assert clone.planned() == NOTHING


FLAGS = {
    "NSA_TRITON_SEL_FORCE": {TUNE} | backend("triton"),
    "NSA_SEL_CUDA_BUILD": {BUILD} | backend("cuda"),
    "NSA_FA2_FORCE": backend("fa2"),
    "NSA_SEL_CUDA": NOTHING,  # a candidate already
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flipped_flag_runs_what_it_affects(flag: str, project: Project) -> None:
    """Lifting a guard does not show the refusal that was recorded before."""
    assert project.planned(**{flag: "1"}) == FLAGS[flag]


def made_here(project: Project, here: dict[str, str]) -> None:
    """Let the results look as if they had been made on this machine, whichever it is."""
    project.planned(**here)
    made = [path for path in (project.root / "results").rglob("*") if ".stamps" not in path.parts]
    for path in sorted(made, key=lambda path: path.stat().st_mtime_ns):
        os.utime(path)
    lose_metadata(project)
    assert project.planned(**here) == NOTHING


@pytest.fixture(scope="module")
def here(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project as if it had been made on the stand-in machine."""
    folder = tmp_path_factory.mktemp("here")
    project, of_here = finished.copy(folder / "project"), machine(folder / "site")
    assert project.planned(**of_here) == ALL  # another machine than the one that this test runs on
    made_here(project, of_here)
    return project


@pytest.mark.parametrize(
    "other", [{"gpu": "H100"}, {"driver": "590.2"}, {"torch": "9.9.1"}], ids=lambda other: next(iter(other))
)
def test_another_machine_runs_everything(other: dict[str, str], here: Project, tmp_path: Path) -> None:
    """A new driver, GPU or torch is not credited with the old one's times."""
    assert here.copy(tmp_path / "project").planned(**machine(tmp_path / "there", **other)) == ALL


def test_nvcc_off_the_path_runs_what_it_built(project: Project, tmp_path: Path) -> None:
    """Without a compiler, or with other flags for it, the extension and what is measured of it are made again."""
    compiler = tmp_path / "cuda" / "nvcc"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho release 99.1, V99.1.2\n")
    compiler.chmod(0o755)
    made_here(project, {"PATH": f"{compiler.parent}:{os.defpath}"})
    assert project.planned() == {BUILD} | backend("cuda")
    assert project.planned(PATH=f"{compiler.parent}:{os.defpath}", NVCC_APPEND_FLAGS="-G") == {BUILD} | backend("cuda")
    compiler.unlink()
    assert project.planned(PATH=f"{compiler.parent}:{os.defpath}") == {BUILD} | backend("cuda")


def test_a_summary_is_made_for_who_asks(project: Project) -> None:
    """decode_{backend}.parquet is no part of the report, and is made again when its cells are."""
    target = "results/decode_cuda.parquet"
    assert project.planned(target) == NOTHING
    (project.root / target).unlink()
    assert project.planned(target) == {"collect cuda"}
    assert project.planned("results/decode_triton.parquet") == {"collect triton"}
    project.append("nsa/bench/decode/arms.py", "\nEDITED = 1\n")
    assert project.planned(target) == {f"decode cuda {S}", "collect cuda"}


def test_a_context_beyond_the_longest_is_refused(project: Project) -> None:
    """A cell that no cache may hold is one line before anything runs."""
    result = project.run("results/decode/sdpa/S999999.parquet")
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert line == "error: S: got 999999, expected at most max_context = 65536 (config.yaml)"
    assert not (project.root / "results/decode/sdpa/S999999.parquet").exists()
