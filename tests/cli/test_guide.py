"""The guide's options of `nsa bench`: what is asked for is measured, and what is wrong is named."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nsa.cli import app, console, guide
from nsa.config import DecodeSettings, DtypeByDevice, Flags, variables
from nsa.errors import ConfigError
from nsa.shapes import NsaShape

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the flags is set."""
    for variable in variables():
        monkeypatch.delenv(variable, raising=False)


def invoke(*arguments: object) -> str:
    """Run a command in this process; an error of ours reaches the test as it is."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace the benchmark by a function that only writes down how it was called, and has measured all."""
    calls: list[Any] = []
    monkeypatch.setattr(console, "bench", lambda *arguments: calls.append(arguments) is None)
    return calls


def test_bench_takes_the_guides_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's command line is taken, and measures what it names."""
    calls = recorded(monkeypatch)
    invoke("bench", "--S_list", "256,128", "--iters", 4, "--warmup", 1, "--csv", "decode.csv", "--head_dim", 64)
    settings = DecodeSettings(model=NsaShape(head_dim=64), iters=4, warmup=1, processes=1)
    assert calls == [(settings, (256, 128), "sdpa", "auto", Flags(), Path("decode.csv"))]


def interrupted(*_: object) -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("bench", "status", "said"), [(lambda *_: False, 1, ""), (interrupted, 130, "interrupted; x.csv")]
)
def test_bench_ends_as_it_went(
    bench: Callable[..., bool], status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A script learns of a context without figures, and of an interrupt, which leaves what was measured."""
    monkeypatch.setattr(console, "bench", bench)
    result = CliRunner().invoke(app, ["bench", "--csv", "x.csv"])
    assert result.exit_code == status and said in result.output


def test_bench_obeys_the_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's `NSA_SEL_CUDA=1` measures the CUDA backend."""
    calls = recorded(monkeypatch)
    monkeypatch.setenv("NSA_SEL_CUDA", "1")
    invoke("bench")
    assert calls[0][2] == "cuda"
    assert calls[0][4] == Flags({"NSA_SEL_CUDA": True})


def test_bench_measures_one_dtype_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """--dtype holds on every device."""
    calls = recorded(monkeypatch)
    invoke("bench", "--dtype", "float16")
    assert calls[0][0].dtype == DtypeByDevice(cuda="float16", cpu="float16")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--S_list", "128,x"),
        ("--S_list", ""),
        ("--S_list", "128,128"),
        ("--S_list", "0"),
        ("--S_list", "2147483648"),
        ("--S_list", "12345678901234567890"),
        ("--S_list", "١٢٨"),
        ("--iters", 0),
        ("--warmup", -1),
        ("--processes", 0),
        ("--batch", 0),
        ("--seed", -1),
        ("--device", "gpu"),
        ("--dtype", "int8"),
        ("--backend", "dense"),
        ("--dim", 0),
        ("--sel_count", 2),
        ("--heads", 9),
        ("--window", 2**31),
        ("--phi", "max"),
    ],
)
def test_bench_names_a_wrong_option(option: str, value: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong option is one line that names it, before anything is measured."""
    calls = recorded(monkeypatch)
    with pytest.raises(ConfigError, match=re.escape(f"{option}: got {value!r}, expected")):
        invoke("bench", option, value)
    assert calls == []


def test_bench_refuses_a_context_that_was_hardly_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A digit too many fills no memory; who means it says so."""
    calls = recorded(monkeypatch)
    with pytest.raises(ConfigError, match="--S_list: got 655360, expected at most --max_context = 65536"):
        invoke("bench", "--S_list", "128,655360")
    assert calls == []
    invoke("bench", "--S_list", "128,655360", "--max_context", "655360")
    assert calls[0][1] == (128, 655360)


@pytest.mark.parametrize(
    ("option", "flags", "chosen"),
    [
        (None, Flags(), "sdpa"),
        ("triton", Flags(), "triton"),
        (None, Flags({"NSA_FA2_FORCE": True}), "fa2"),
        ("cuda", Flags({"NSA_SEL_CUDA": True}), "cuda"),
        ("triton", Flags({"NSA_TRITON_SEL_FORCE": True}), "triton"),  # forces, requests nothing
    ],
)
def test_what_was_requested_is_what_runs(option: str | None, flags: Flags, chosen: str) -> None:
    """The option or the flag that asks for a backend decides which one runs."""
    assert guide.choose_backend(option, flags) == chosen


@pytest.mark.parametrize(
    ("option", "flags"),
    [
        ("sdpa", Flags({"NSA_SEL_CUDA": True})),
        (None, Flags({"NSA_SEL_CUDA": True, "NSA_USE_TRITON_SEL": True})),
    ],
)
def test_contradicting_requests_are_refused(option: str | None, flags: Flags) -> None:
    """Two requests for different backends are an error."""
    with pytest.raises(ConfigError, match="ask for"):
        guide.choose_backend(option, flags)


def test_summarize_ends_when_nobody_reads_on(tmp_path: Path) -> None:
    """A pipe that is closed after the first line, as by `head`, ends it without a word."""
    path = tmp_path / "long.csv"
    rows = "".join(f"{S},2.0,0.5,0.6,0.4,704,704\n" for S in range(1, 5001))
    path.write_text(f"S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected\n{rows}")
    command = [sys.executable, "-m", "nsa", "summarize", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().split() == [b"S", b"total", b"cmp%", b"sel%", b"win%", b"reads"]
        process.stdout.close()
        assert process.stderr.read() == b""
