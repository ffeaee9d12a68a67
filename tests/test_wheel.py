"""The wheel: whoever installs the package without a checkout has everything that it executes, reads and compiles."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
STAMPS = """
import json
from pathlib import Path
import nsa
from nsa.config import load
from nsa.pipeline import stamps
found = stamps.today(load(Path({config!r}), {{}}), {{}})
print(json.dumps([nsa.__file__, {{stage: carried.sources for stage, carried in found.items()}}]))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages into which the wheel is unpacked, as an installation does it."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "nsa", source / "nsa", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-c", BUILD, str(source)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    (wheel,) = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)
    return site


def used(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in another folder, with the installed package and no checkout."""
    environ: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_every_file_of_the_package_is_in_it(site: Path) -> None:
    """Sources of every language, templates and figures."""

    def files(folder: Path) -> set[Path]:
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {path for path in found if "__pycache__" not in path.parts}

    assert files(site / "nsa") == files(ROOT / "nsa")


def test_every_stage_executes_what_it_does_in_the_checkout(site: Path, tmp_path: Path) -> None:
    """The digest of each stage's sources is that of the checkout."""
    code = STAMPS.format(config=str(ROOT / "config.yaml"))
    ours, installed = (json.loads(used(place, tmp_path, "-c", code).stdout) for place in (ROOT, site))
    assert Path(installed[0]).is_relative_to(site) and not Path(ours[0]).is_relative_to(site)
    assert installed[1] == ours[1] != {}


def test_the_guides_commands_work_without_a_checkout(site: Path, tmp_path: Path) -> None:
    """bench measures, and summarize says what its CSV means, by the guide's thresholds where nobody named others."""
    options = ("--device", "cpu", "--S_list", "128", "--iters", "2", "--warmup", "1", "--csv", "decode.csv")
    measured = used(site, tmp_path, "-m", "nsa", "bench", *options)
    assert measured.returncode == 0, measured.stderr
    told = used(site, tmp_path, "-m", "nsa", "summarize", "decode.csv")
    assert told.returncode == 0, told.stderr
    assert told.stderr.startswith("note: there is no config.yaml here, so the thresholds are the guide's")


@pytest.mark.parametrize("command", ["check", "accept", "doctor"])
def test_what_needs_a_run_says_so_in_one_line(command: str, site: Path, tmp_path: Path) -> None:
    """Where nothing was run there is no traceback."""
    told = used(site, tmp_path, "-m", "nsa", command)
    assert told.returncode != 0
    assert (told.stdout + told.stderr).count("\n") == 1, told.stderr


def test_the_schema_is_printed_without_a_checkout(site: Path, tmp_path: Path) -> None:
    """There is no workflow beside an installed package whose file could be written."""
    told = used(site, tmp_path, "-m", "nsa.config")
    assert told.stdout == (ROOT / "workflow/schemas/config.schema.yaml").read_text()
