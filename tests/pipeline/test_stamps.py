"""Stamps as files: what one holds, what is written again, and what a broken one or a broken source says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nsa.config import Config
from nsa.errors import ConfigError, RecordError
from nsa.layout import Layout
from nsa.pipeline import stamps

ROOT = Path(stamps.__file__).parents[2]
MACHINE = {"gpus": "none", "torch": "2.13.0"}


def test_an_unchanged_stamp_is_left_alone(raw: dict[str, Any], tmp_path: Path) -> None:
    """A second parse of the Snakefile makes no stamp newer than its results."""
    config, layout = Config.parse(raw, {}), Layout(tmp_path)
    stamps.write(config, MACHINE, layout)
    before = {file.name: file.stat().st_mtime_ns for file in layout.stamps.iterdir()}
    stamps.write(config, MACHINE, layout)
    assert {file.name: file.stat().st_mtime_ns for file in layout.stamps.iterdir()} == before


def test_a_stamp_reads_back(raw: dict[str, Any], tmp_path: Path) -> None:
    """A command runs with the settings that were stamped, and its record carries their digests."""
    config, layout = Config.parse(raw, {"NSA_FA2_FORCE": "1"}), Layout(tmp_path)
    stamps.write(config, MACHINE, layout)
    stamp = stamps.read(layout.stamp("decode-fa2"))
    decode = config.decode.model_dump(mode="json")
    assert stamp.settings == {"decode": decode, "device": "auto", "flags": {"NSA_FA2_FORCE": True}}
    report = stamps.read(layout.stamp("report"))
    assert report.settings["config"] == config.document()
    assert report.settings["flags"] == {"NSA_FA2_FORCE": True}
    found = stamps.digests(layout.stamps)
    assert found == stamps.today(config, MACHINE)
    assert found["decode-fa2"].sources == stamp.sources.digest
    assert found["report"].machine is None


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"stage": "decode-cuda", "settings": {}}'])
def test_a_broken_stamp_is_one_clear_line(content: str | None, tmp_path: Path) -> None:
    """A command that is started by hand with a wrong stamp ends in one line."""
    path = tmp_path / "decode-cuda.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecordError, match=r"decode-cuda\.json.*; run `snakemake -n`, which writes it anew") as caught:
        stamps.read(path)
    assert "\n" not in str(caught.value)


BROKEN_SOURCES = {
    "acme/selection/kernel.py": b"def (",  # half saved
    "acme/helper.py": "\u00e9 = 1".encode("latin-1"),
    "acme/shared/tile.cuh": None,  # a pattern of `files` that matches nothing
}


@pytest.mark.parametrize("source", BROKEN_SOURCES)
def test_a_backend_whose_sources_cannot_be_told_stops_only_who_asks(
    source: str, acme: Path, raw: dict[str, Any], tmp_path: Path
) -> None:
    """Others have their stamps and a line that names it; who asked for it has that line as an error."""
    content = BROKEN_SOURCES[source]
    (acme / source).unlink() if content is None else (acme / source).write_bytes(content)
    layout, whole = Layout(tmp_path / "results"), set(stamps.today(Config.parse(raw, {}), MACHINE))
    (line,) = stamps.write(Config.parse(raw, {}), MACHINE, layout)
    assert line.startswith("backend 'acme': ") and line.endswith("; fix or uninstall its package") and "\n" not in line
    assert {path.stem for path in layout.stamps.iterdir()} == whole
    assert not any("acme" in stage for stage in whole) and "decode-cuda" in whole
    with pytest.raises(ConfigError) as caught:
        stamps.today(Config.parse({**raw, "candidates": ["acme"]}, {}), MACHINE)
    assert str(caught.value) == line


def test_a_source_of_ours_that_is_half_saved_is_one_line(raw: dict[str, Any], tmp_path: Path) -> None:
    """An edit that is under way ends in one line that names the file, before anything runs."""
    program = (
        "from pathlib import Path; from nsa.pipeline import stamps; from nsa.config import load\n"
        "Path('nsa/kernels/extension/toolchain.py').write_text('def (')\n"
        "try: stamps.today(load(Path('config.yaml'), {}), {})\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    shutil.copytree(ROOT / "nsa", tmp_path / "nsa", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "config.yaml", tmp_path)
    said = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=tmp_path)
    assert re.match(
        r"ConfigError Syntax error in .*/nsa/kernels/extension/toolchain\.py, line 1.*; expected Python, mend", said
    )


def test_stamps_need_nothing_heavy(tmp_path: Path) -> None:
    """`snakemake -n` imports neither torch nor pandas, and answers in about a second."""
    program = (
        "import json, os, sys; from pathlib import Path;"
        "from nsa.pipeline import stamps; from nsa.config import load; from nsa.layout import Layout;"
        "from nsa.machine.fingerprint import fingerprint;"
        f"stamps.write(load(Path('config.yaml'), {{}}), fingerprint(), Layout(Path({str(tmp_path)!r})));"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT))
    assert not {"torch", "triton", "numpy", "pandas", "pyarrow", "scipy", "matplotlib"} & set(loaded)
