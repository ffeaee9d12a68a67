"""Changed inputs rerun the stages that they affect, and no other: exactly these jobs (docs/reruns.md)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from project import Project, machine

BACKENDS = ("sdpa", "cuda", "triton", "fa2")
S = 128  # the only context of the finished project
REPORT = {"report"}
ARTIFACTS = {"build", "tune"}  # what a backend's own stage makes for it


def each(stage: str, backends: Iterable[str] = BACKENDS) -> set[str]:
    """This stage of these backends."""
    return {f"{stage} {backend}" for backend in backends}


def decoded(*backends: str, S: int = S) -> set[str]:
    """What new times of a decode step bring: the cell of these backends, their summaries and the report."""
    return {f"decode {backend} {S}" for backend in backends} | each("collect", backends) | REPORT


def backend(*names: str) -> set[str]:
    """Everything that is measured of these backends."""
    return decoded(*names) | each("check", names) | each("dram", names)


MEASURED = backend(*BACKENDS)
ALL = {"environment", *ARTIFACTS} | MEASURED


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


NOTHING: set[str] = set()
CASES: dict[str, tuple[Callable[[Project], None], set[str]]] = {
    "nothing": (lambda project: None, NOTHING),
    "every source touched": (touch_all, NOTHING),
    ".cu edited": (edit("nsa/kernels/cuda/csrc/instantiate_dv64.cu", "\n// edited\n"), {"build"} | backend("cuda")),
    ".cuh edited": (edit("nsa/kernels/cuda/csrc/tile.cuh", "\n// edited\n"), {"build"} | backend("cuda")),
    "Triton kernel edited": (edit("nsa/kernels/triton/kernel.py", "\nEDITED = 1\n"), {"tune"} | backend("triton")),
    "fa2 edited": (edit("nsa/kernels/fa2/package.py", "\nEDITED = 1\n"), backend("fa2")),
    "packed SDPA edited": (  # every candidate competes with it
        edit("nsa/kernels/sdpa/packed.py", "\nEDITED = 1\n"),
        backend("sdpa") | each("check"),
    ),
    "comment edited": (edit("nsa/kernels/fa2/package.py", "\n# a comment\n"), backend("fa2")),
    "deep module edited": (edit("nsa/shapes.py", "\nEDITED = 1\n"), ALL - {"environment"}),
    "attention edited": (edit("nsa/attention/rope.py", "\nEDITED = 1\n"), decoded(*BACKENDS) | each("check")),
    "arms edited": (edit("nsa/bench/decode/arms.py", "\nEDITED = 1\n"), decoded(*BACKENDS)),
    "kernel check edited": (edit("nsa/bench/check/replicate.py", "\nEDITED = 1\n"), each("check") | REPORT),
    "profiled program edited": (edit("nsa/bench/dram/target.py", "\nEDITED = 1\n"), each("dram") | REPORT),
    "statistics edited": (edit("nsa/report/analysis/stats.py", "\nEDITED = 1\n"), each("collect") | REPORT),
    "report edited": (edit("nsa/report/page/plots.py", "\nEDITED = 1\n"), REPORT),
    "template edited": (edit("nsa/report/page/templates/gate_report.md.j2"), REPORT),
    "console edited": (edit("nsa/cli/console.py", "\nEDITED = 1\n"), NOTHING),
    "edited with an old date": (edit_with_an_old_date, REPORT),
    "without metadata": (lose_metadata, NOTHING),
    "without metadata and edited": (lose_metadata_and_edit, decoded(*BACKENDS)),
    "threshold changed": (configure(gates={"accept": {"mae": 1e-3, "speedup": 1.5, "error_ratio": 2.0}}), REPORT),
    "S added": (
        configure(contexts=[S, 256]),
        {f"decode {name} 256" for name in BACKENDS} | each("collect") | REPORT,
    ),
    "iterations changed": (configure(decode={"iters": 5}), decoded(*BACKENDS)),
    "time-out changed": (configure(decode={"timeout_s": 60}), decoded(*BACKENDS)),
    "check seeds changed": (configure(check={"seeds": 2}), each("check") | REPORT),
    "counters skipped": (configure(dram={"ncu": "skip"}), each("dram") | REPORT),
    "build asked for": (configure(build={"cuda": "auto"}), {"build"} | backend("cuda")),
    "candidate dropped": (configure(candidates=["cuda", "triton"]), REPORT),
    "environment deleted": (delete("environment.json"), ALL - {"build"}),
    "build deleted": (delete("build/cuda.json"), {"build"} | backend("cuda")),
    "cell deleted": (delete(f"decode/triton/S{S}.parquet"), decoded("triton")),
    "summary deleted": (delete("decode_triton.parquet"), each("collect", ["triton"]) | REPORT),
    "check deleted": (delete("check_cuda.parquet"), each("check", ["cuda"]) | REPORT),
    "report deleted": (delete("gate_report.md"), REPORT),
    "gate.json deleted": (delete("gate.json"), REPORT),
    "stamp deleted": (delete(".stamps/decode-sdpa.json"), NOTHING),
}


@pytest.mark.parametrize("case", CASES)
def test_exactly_these_jobs_run_again(case: str, project: Project) -> None:
    """Without it, figures would be credited to code or settings that did not make them, or all be measured again."""
    change, expected = CASES[case]
    change(project)
    assert project.planned() == expected


@pytest.mark.parametrize("case", ["cell deleted", "gate.json deleted", ".cu edited"])
def test_the_guides_own_command_runs_the_same(case: str, project: Project) -> None:
    """Without it, a deleted record would be made again by `snakemake`, and be forgotten by the guide's command."""
    change, expected = CASES[case]
    change(project)
    assert project.planned("--cores", "1", "results/gate_report.md") == expected


def test_a_reverted_edit_runs_nothing(project: Project) -> None:
    """Without it, trying something and taking it back would cost a measurement."""
    source = project.root / "nsa/bench/method/timing.py"
    original = source.read_bytes()
    project.append("nsa/bench/method/timing.py")
    assert each("decode") <= {job.removesuffix(f" {S}") for job in project.planned()}
    source.write_bytes(original)
    assert project.planned() == NOTHING


def test_a_setting_for_one_run_is_for_one_run(project: Project) -> None:
    """Without it, `--config` would leave something behind that the next plain run measures for."""
    assert project.planned("--config", "contexts=[128, 256]") == CASES["S added"][1]
    assert project.planned("--config", "gates={accept: {speedup: 1.5}}") == REPORT
    assert project.planned() == NOTHING


def test_a_deletion_taken_back_runs_the_report_at_most(project: Project) -> None:
    """Without it, looking at what a deletion would cost would bring its cost."""
    cell = project.root / f"results/decode/fa2/S{S}.parquet"
    kept = cell.with_suffix(".kept")
    cell.rename(kept)
    assert project.planned() == decoded("fa2")
    kept.rename(cell)
    assert project.planned() == REPORT


def test_a_new_context_runs_alone(project: Project) -> None:
    """Without it, asking for one more S would measure every other again."""
    assert project.planned("results/decode/sdpa/S256.parquet") == {"decode sdpa 256"}


@pytest.mark.parametrize("metadata", [True, False], ids=["with metadata", "without metadata"])
def test_a_fresh_clone_with_restored_results_runs_nothing(
    metadata: bool, finished: Project, clone: Project, tmp_path: Path
) -> None:
    """Without it, continuous integration would measure everything in every run, whatever it has in its cache."""
    shutil.copy(finished.root / "config.yaml", clone.root / "config.yaml")
    kept = ["results", ".snakemake"] if metadata else ["results"]
    for folder in kept:
        archive = shutil.make_archive(str(tmp_path / "archive"), "tar", finished.root, folder)
        shutil.unpack_archive(archive, clone.root, "tar", filter="fully_trusted")
    assert clone.planned() == NOTHING


FLAGS = {
    "NSA_TRITON_SEL_FORCE": {"tune"} | backend("triton"),
    "NSA_SEL_CUDA_BUILD": {"build"} | backend("cuda"),
    "NSA_FA2_FORCE": backend("fa2"),
    "NSA_SEL_CUDA": NOTHING,  # a candidate already
}


@pytest.mark.parametrize("flag", FLAGS)
def test_a_flipped_flag_runs_what_it_affects(flag: str, project: Project) -> None:
    """Without it, lifting a guard would show the refusal that was recorded before."""
    assert project.planned(**{flag: "1"}) == FLAGS[flag]


@pytest.mark.parametrize(
    "other", [{"gpu": "H100"}, {"driver": "590.2"}, {"torch": "9.9.1"}], ids=lambda other: next(iter(other))
)
def test_another_machine_runs_everything(other: dict[str, str], project: Project, tmp_path: Path) -> None:
    """Without it, a new driver, GPU or torch would be credited with the old one's times."""
    here, there = machine(tmp_path / "here"), machine(tmp_path / "there", **other)
    assert project.planned(**here) == ALL  # another machine than the one that this test runs on
    made = [path for path in (project.root / "results").rglob("*") if ".stamps" not in path.parts]
    for path in sorted(made, key=lambda path: path.stat().st_mtime_ns):
        os.utime(path)  # as if the results had been made here
    lose_metadata(project)
    assert project.planned(**here) == NOTHING
    assert project.planned(**there) == ALL
