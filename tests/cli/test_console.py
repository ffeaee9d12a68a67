"""The guide's benchmark on the console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsa.cli import console
from nsa.config import DecodeSettings, Flags
from nsa.errors import BackendUnavailable, RecordError

QUICK = DecodeSettings(iters=3, warmup=1, processes=1)


def test_it_prints_each_context_and_writes_the_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Breaks if the guide's table or its CSV columns change under its users."""
    console.bench(QUICK, (40, 100), "sdpa", "cpu", Flags(), tmp_path / "decode.csv")
    printed = capsys.readouterr().out
    assert "Context      Total(ms)     cmp(ms)     sel(ms)     win(ms)       Reads" in printed
    assert "81/81" in printed and "205/205" in printed
    header, *rows = (tmp_path / "decode.csv").read_text().splitlines()
    assert header.startswith("S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected")
    assert [row.split(",")[0] for row in rows] == ["40", "100"]


def test_nothing_is_measured_that_could_not_be_kept_or_was_not_asked_for(tmp_path: Path) -> None:
    """Breaks if a long run ends without its CSV, or if another backend runs in place of the requested one."""
    with pytest.raises(RecordError, match="expected an existing folder"):
        console.bench(QUICK, (40,), "sdpa", "cpu", Flags(), tmp_path / "absent" / "decode.csv")
    with pytest.raises(BackendUnavailable, match="no CUDA device"):
        console.bench(QUICK, (40,), "triton", "cpu", Flags(), None)


def test_the_build_flag_builds_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if NSA_SEL_CUDA_BUILD=1 is not obeyed, or a benchmark compiles, or touches the pipeline's build, unasked."""
    monkeypatch.chdir(tmp_path)
    asked: list[Any] = []
    monkeypatch.setattr(console.build, "build", lambda *arguments: asked.append(arguments) or {"status": "built"})
    assert console.artifacts("cuda", Flags()) == {} and asked == []
    assert console.artifacts("cuda", Flags(cuda_build=True)) == {"cuda": {"status": "built"}}
    assert asked == [("require", Path("results/.bench-build"))]
    (tmp_path / "results" / "build").mkdir(parents=True)
    (tmp_path / "results" / "build" / "cuda.json").write_text('{"status": "skipped"}')
    assert console.artifacts("cuda", Flags()) == {"cuda": {"status": "skipped"}} and len(asked) == 1


def test_a_backend_is_given_what_its_own_stage_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Breaks if the benchmark on the console ignores the tuned cuts that the pipeline uses."""
    monkeypatch.chdir(tmp_path)
    assert console.artifacts("triton", Flags()) == console.artifacts("sdpa", Flags()) == {}
    (tmp_path / "results" / "tune").mkdir(parents=True)
    (tmp_path / "results" / "tune" / "triton.json").write_text('{"status": "ok"}')
    assert console.artifacts("triton", Flags(cuda_build=True)) == {"triton": {"status": "ok"}}
    assert console.artifacts("sdpa", Flags()) == {}
