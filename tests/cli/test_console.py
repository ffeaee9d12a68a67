"""The guide's benchmark on the console."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from nsa.bench.runner import Result
from nsa.cli import console
from nsa.config import BUILD, DecodeSettings, Flags
from nsa.errors import BackendUnavailable, RecordError, RequiredBuildFailed
from nsa.kernels.extension.build import Extension
from nsa.kernels.extension.manifest import Manifest
from nsa.machine.host import Host
from nsa.records import files
from nsa.records.decode import DecodeFacts
from nsa.records.outcome import OutOfMemory

QUICK = DecodeSettings(iters=3, warmup=1, processes=1)


def test_it_prints_each_context_and_writes_the_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's table and its CSV columns are what the guide shows."""
    assert console.bench(QUICK, (40, 100), "sdpa", "cpu", Flags(), tmp_path / "decode.csv")
    printed = capsys.readouterr().out
    assert "Context      Total(ms)     cmp(ms)     sel(ms)     win(ms)       Reads" in printed
    assert "81/81" in printed and "205/205" in printed
    header, *rows = (tmp_path / "decode.csv").read_text().splitlines()
    assert header.startswith("S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected")
    assert [row.split(",")[0] for row in rows] == ["40", "100"]


def test_nothing_is_measured_that_could_not_be_kept_or_was_not_asked_for(tmp_path: Path) -> None:
    """A CSV that cannot be written, and a backend that cannot run, are errors before anything is measured."""
    with pytest.raises(RecordError, match="expected an existing folder"):
        console.bench(QUICK, (40,), "sdpa", "cpu", Flags(), tmp_path / "absent" / "decode.csv")
    with pytest.raises(BackendUnavailable, match="no CUDA device"):
        console.bench(QUICK, (40,), "triton", "cpu", Flags(), None)


def test_what_was_measured_is_kept_and_what_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interrupt costs the contexts that were not measured yet, and a failure says why and what to do."""

    def measured(backend: str, S: int, settings: DecodeSettings, host: Host, say: object) -> Result[DecodeFacts]:
        if S == 100:
            raise KeyboardInterrupt
        return Result(host.device, OutOfMemory(reason="8 GiB do not fit", fix="lower decode.batch"))

    csv = tmp_path / "decode.csv"
    csv.write_text("of an earlier run")
    monkeypatch.setattr(console, "measure", measured)
    with pytest.raises(KeyboardInterrupt):
        console.bench(QUICK, (40, 100), "sdpa", "cpu", Flags(), csv)
    assert [row.split(",")[0] for row in csv.read_text().splitlines()] == ["S", "40"]
    printed = capsys.readouterr().out
    assert f"{csv} is there, and is replaced by what is measured now\n" in printed
    assert "  oom: 8 GiB do not fit; lower decode.batch\n" in printed
    assert not console.bench(QUICK, (40,), "sdpa", "cpu", Flags(), None)


def test_the_build_flag_builds_and_nothing_else_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NSA_SEL_CUDA_BUILD=1 builds beside the pipeline's own build; without it nothing is built."""
    monkeypatch.chdir(tmp_path)
    asked: list[tuple[str, Path]] = []

    def build(extension: Extension, mode: str, out: Path) -> Manifest:
        asked.append((mode, out))
        made = Manifest(status=status, library="x", library_sha256="x", reason="no nvcc", fix="install one")
        files.write_model(out, made)
        return made

    monkeypatch.setattr(console.build, "build", build)
    assert console.artifacts("cuda", Flags()) == {} and asked == []
    status: Literal["built", "failed"] = "built"
    assert console.artifacts("cuda", Flags({BUILD: True}))["cuda"]["status"] == "built"
    assert asked == [("require", Path("results/.bench-build/cuda.json"))]
    files.write_model(Path("results/build/cuda.json"), Manifest(status="skipped"))
    assert console.artifacts("cuda", Flags({BUILD: False}))["cuda"]["status"] == "skipped" and len(asked) == 1
    status = "failed"
    with pytest.raises(RequiredBuildFailed, match="no nvcc; install one"):
        console.artifacts("cuda", Flags({BUILD: True}))


def test_a_backend_is_given_what_its_own_stage_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline built or tuned is used on the console too."""
    monkeypatch.chdir(tmp_path)
    assert console.artifacts("triton", Flags()) == console.artifacts("sdpa", Flags()) == {}
    files.write_text(Path("results/tune/triton.json"), '{"status": "ok"}')
    assert console.artifacts("triton", Flags({BUILD: True})) == {"triton": {"status": "ok"}}
    assert console.artifacts("sdpa", Flags()) == {}
