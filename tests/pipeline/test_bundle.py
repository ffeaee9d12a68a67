"""A run as one file: what is shared is whole, and what was changed on its way is not opened."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.pipeline.bundle import pack, unpack

SHARED = (
    "gate.json",
    "gate_report.html",
    "run.yaml",
    "decode/sdpa/S128.parquet",
    "logs/report.log",
    ".stamps/report.json",
)
OWN = (".lock", ".gate_report.md", "build/nsa_cuda.so", "build/objects/cuda/x.o", ".decode.csv.7.tmp")


@pytest.fixture
def run(tmp_path: Path) -> Layout:
    """A folder of results, with what is nobody else's business."""
    for name in (*SHARED, *OWN):
        path = tmp_path / "results" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return Layout(tmp_path / "results")


def test_a_bundle_is_unpacked_as_it_was_packed(run: Layout, tmp_path: Path) -> None:
    """Every file that others can use arrives, and no lock or library."""
    pack(run, tmp_path / "run.zip")
    found = unpack(tmp_path / "run.zip", tmp_path / "there").root
    names = {path.relative_to(found).as_posix(): path.read_text() for path in found.rglob("*") if path.is_file()}
    assert names == {name: f"content of {name}" for name in SHARED}


def test_the_same_run_makes_the_same_file(run: Layout, tmp_path: Path) -> None:
    """Its digest names a run."""
    assert pack(run, tmp_path / "a.zip") == pack(run, tmp_path / "b.zip")


def test_without_a_report_there_is_nothing_to_share(run: Layout, tmp_path: Path) -> None:
    """Who asks too early is told what to do."""
    run.gate.unlink()
    with pytest.raises(RecordError, match=r"gate\.json: missing, expected a finished run; run `snakemake` first"):
        pack(run, tmp_path / "run.zip")


def changed(bundle: Path) -> None:
    """Replace one file, as somebody who edits a figure does."""
    with zipfile.ZipFile(bundle) as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    with zipfile.ZipFile(bundle, "w") as packed:
        for name, data in {**content, "gate.json": b"{}"}.items():
            packed.writestr(name, data)


def escaping(bundle: Path) -> None:
    """A file that would lie beside the folder."""
    data = b"x"
    with zipfile.ZipFile(bundle, "w") as packed:
        packed.writestr("../x", data)
        packed.writestr("SHA256SUMS", "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881  ../x\n")


def foreign(bundle: Path) -> None:
    """A ZIP file of somebody else's."""
    with zipfile.ZipFile(bundle, "w") as packed:
        packed.writestr("a.txt", "x")


def test_what_is_not_what_was_packed_is_refused(run: Layout, tmp_path: Path) -> None:
    """A changed, foreign or broken file is one line, and nothing of it is written."""
    cases = {
        changed: "gate.json is not the file that was packed",
        escaping: r"\.\./x would lie outside",
        foreign: "is no bundle",
        lambda path: path.write_text("x"): "is no bundle",
        Path.unlink: "cannot be read",
    }
    for break_it, said in cases.items():
        pack(run, tmp_path / "run.zip")
        break_it(tmp_path / "run.zip")
        with pytest.raises(RecordError, match=said):
            unpack(tmp_path / "run.zip", tmp_path / "there")
        assert not (tmp_path / "there").exists() and not (tmp_path / "x").exists()


def test_no_folder_is_written_over(run: Layout, tmp_path: Path) -> None:
    """A run that is there stays."""
    pack(run, tmp_path / "run.zip")
    with pytest.raises(RecordError, match="is there already"):
        unpack(tmp_path / "run.zip", run.root)
