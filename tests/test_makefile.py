"""`make clean`, which deletes every result wherever the folder of results lies."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("linked", [False, True], ids=["a folder", "a link"])
def test_clean_deletes_what_results_holds(linked: bool, tmp_path: Path) -> None:
    """Nothing is left of the results but the file that keeps the folder in git, and the link itself."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    elsewhere = tmp_path / ("elsewhere" if linked else "results")
    (elsewhere / "decode").mkdir(parents=True)
    for name in (".gitkeep", "decode/S128.parquet", ".lock"):
        (elsewhere / name).touch()
    if linked:
        (tmp_path / "results").symlink_to(elsewhere)
    clean(tmp_path)
    assert [path.name for path in (tmp_path / "results").iterdir()] == [".gitkeep"]
    assert (tmp_path / "results").is_symlink() == linked


@pytest.mark.parametrize("dangling", [False, True], ids=["no folder", "a link to nothing"])
def test_clean_without_results_is_no_error(dangling: bool, tmp_path: Path) -> None:
    """Where there is nothing to delete nothing is wrong, and the caches are deleted."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / ".snakemake").mkdir()
    if dangling:
        (tmp_path / "results").symlink_to(tmp_path / "nothing")
    clean(tmp_path)
    assert not (tmp_path / ".snakemake").exists()


def clean(folder: Path) -> None:
    done = subprocess.run(["make", "clean"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
