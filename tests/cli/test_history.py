"""`nsa history`: what is printed of the histories in a folder, and what of a folder without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest
from remembered import remember
from typer.testing import CliRunner

from nsa.cli import app, main
from tests.report.conftest import Lab

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Three runs: the last one's cuda step and kernel are slower."""
    made = Lab(tmp_path_factory.mktemp("results"))
    remember(made, 20)
    remember(made, 21)
    remember(made, 22, parts={"fixed": 0.042}, speedup=1.8)
    return made


def said(lab: Lab, *options: str) -> list[str]:
    """The lines that the command prints."""
    command = ["history", "--folder", str(lab.history), "--accepted", str(lab.accepted), *options]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


def test_each_cell_is_shown_over_the_commits(lab: Lab) -> None:
    """One block for each cell and check, with date, commit, time, change and what it says; a slowdown is marked."""
    lines = said(lab)
    assert lines[0] == "NVIDIA Synthetic: 3 runs, 2026-11-20 10:00 to 2026-11-22 10:00 (UTC)"
    titles = [line for line in lines[2:] if line and not line.startswith(" ")]
    assert titles == [
        "cuda, S = 2048",
        "sdpa, S = 128",
        "sdpa, S = 2048",
        "cuda, kernel check, geometric mean of 4 shapes",
    ]
    block = lines[lines.index("cuda, S = 2048") + 1 :][:3]
    assert [line.split()[2] for line in block] == ["commit20", "commit21", "commit22"]
    assert [line.split("  ")[-1].strip() for line in block] == ["reference", "same", "▲ slower"]
    assert "12.5 [" in block[2] and " ms " in block[2]
    assert all(len(line) < 100 for line in lines)


def test_one_backend_one_model_and_the_last_ones_can_be_asked_for(lab: Lab) -> None:
    """--backend, --gpu and --last; the reference is always shown."""
    lines = said(lab, "--backend", "sdpa", "--gpu", "synth", "--last", "1")
    assert [line for line in lines[2:] if line and not line.startswith(" ")] == ["sdpa, S = 128", "sdpa, S = 2048"]
    assert [line.split()[2] for line in lines if line.startswith(" ")] == ["commit20", "commit22"] * 2


def test_a_csv_has_a_row_for_each_measurement(lab: Lab, tmp_path: Path) -> None:
    """Times in ms and changes as ratios, with their intervals and where they come from."""
    path = tmp_path / "history.csv"
    said(lab, "--csv", str(path))
    table = pd.read_csv(path)
    assert len(table) == 3 * 4
    last = table[(table["backend"] == "cuda") & (table["kind"] == "decode")].iloc[-1]
    assert last["change"] == pytest.approx(1.125, abs=0.005)
    assert last["change_lo"] < last["change"] < last["change_hi"]
    assert (last["git_commit"], last["processes"], last["says"]) == ("commit22", 10, "slower")
    assert last["reference_utc"] == "2026-11-20T10:00:00+00:00"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--gpu", "h200"), "--gpu: got 'h200', expected a model of a history in .*: nvidia-synthetic"),
        (("--backend", "fa3"), "--backend: got 'fa3', expected one that was measured: cuda, sdpa"),
        (("--folder", "nowhere"), "nowhere: no run on a GPU was kept there yet; run `snakemake` on a machine with one"),
    ],
)
def test_what_is_not_there_is_one_line(
    options: tuple[str, ...],
    expected: str,
    lab: Lab,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was asked for, and what there is; exit status 2."""
    monkeypatch.setattr("sys.argv", ["nsa", "history", "--folder", str(lab.history), *options])
    with pytest.raises(SystemExit) as caught:
        main()
    error = capsys.readouterr().err
    assert caught.value.code == 2
    assert error.count("\n") == 1
    assert pd.Series([error]).str.contains(expected).all()
