"""The guide's console commands: bench and summarize."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, get_args

import typer

from nsa import backends
from nsa.cli.app import app
from nsa.config import DecodeSettings, Flags, GateSettings, parse
from nsa.errors import ConfigError
from nsa.layout import Layout
from nsa.settings import MAX_INT32, Dtype
from nsa.shapes import require

DEFAULT = Path("config.yaml")
GUIDE = DecodeSettings()
SHAPE = GUIDE.model
INTERRUPTED = 130  # the exit status that shells give to a command that SIGINT ended
DEVICES = ("auto", "cuda", "cpu")
DTYPES = get_args(Dtype)


@app.command()
def summarize(
    csv: Annotated[Path, typer.Argument(help="A decode.csv, or a decode_*.parquet.")],
    config: Annotated[
        Path | None,
        typer.Option(help="Where the thresholds are. Default: the run, config.yaml, or the guide."),
    ] = None,
) -> None:
    """Print each context's total, branch shares and reads.

    The exit status is 1 where reads differ.
    """
    from nsa.config import load
    from nsa.pipeline import finished
    from nsa.report.page import guide

    if config is not None:
        gates = load(config, os.environ, under=DEFAULT).gates
    elif finished.is_there(Layout(csv.parent)) or DEFAULT.exists():  # in a results folder: that of the run
        gates = finished.configuration(Layout(csv.parent), DEFAULT, os.environ).gates
    else:
        gates = GateSettings()
        typer.echo(
            f"note: there is no {DEFAULT} here, so the thresholds are the guide's; --config names another", err=True
        )
    said = guide.summarize(csv, gates)
    sys.stdout.writelines(f"{line}\n" for line in said.lines)
    if said.reads_differ:
        raise typer.Exit(1)


@app.command()
def bench(
    S_list: Annotated[str, typer.Option("--S_list", help="Contexts, comma-separated.")] = "128,256,512,1024",
    max_context: Annotated[int, typer.Option("--max_context", help="No context may be longer.")] = 65536,
    iters: Annotated[int, typer.Option(help="Timed repetitions of each arm.")] = GUIDE.iters,
    warmup: Annotated[int, typer.Option(help="Repetitions before those, untimed.")] = GUIDE.warmup,
    processes: Annotated[int, typer.Option(help="Replicates; a decision wants 10.")] = 1,
    csv: Annotated[Path | None, typer.Option(help="Write the raw timings here.")] = None,
    backend: Annotated[str | None, typer.Option(help="Default: the one that a NSA_* flag requests, or sdpa.")] = None,
    device: Annotated[str, typer.Option(help="auto, cuda or cpu.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Default: bfloat16 on cuda, float32 on cpu.")] = None,
    batch: Annotated[int, typer.Option(help="B, sequences.")] = GUIDE.batch,
    dim: Annotated[int, typer.Option(help="Hidden size.")] = SHAPE.dim,
    heads: Annotated[int, typer.Option(help="H, query heads.")] = SHAPE.heads,
    groups: Annotated[int, typer.Option(help="G, KV groups.")] = SHAPE.groups,
    head_dim: Annotated[int, typer.Option("--head_dim", help="D, of q and k.")] = SHAPE.head_dim,
    value_dim: Annotated[int, typer.Option("--value_dim", help="Dv, of v.")] = SHAPE.value_dim,
    cmp_block: Annotated[int, typer.Option("--cmp_block", help="l, compression block.")] = SHAPE.cmp_block,
    cmp_stride: Annotated[int, typer.Option("--cmp_stride", help="d, its stride.")] = SHAPE.cmp_stride,
    sel_block: Annotated[int, typer.Option("--sel_block", help="l', selection block.")] = SHAPE.sel_block,
    sel_count: Annotated[int, typer.Option("--sel_count", help="n, blocks selected.")] = SHAPE.sel_count,
    window: Annotated[int, typer.Option(help="w, sliding window.")] = SHAPE.window,
    phi: Annotated[str, typer.Option(help="mean or mlp.")] = SHAPE.phi,
    seed: Annotated[int, typer.Option(help="Of the weights and inputs.")] = GUIDE.seed,
) -> None:
    """Measure decode steps, and print their times and reads."""
    flags = Flags.from_env(os.environ)
    require(device in DEVICES, "--device", device, "one of " + ", ".join(DEVICES))
    require(dtype is None or dtype in DTYPES, "--dtype", dtype, "one of " + ", ".join(DTYPES))
    model = {
        "dim": dim,
        "heads": heads,
        "groups": groups,
        "head_dim": head_dim,
        "value_dim": value_dim,
        "cmp_block": cmp_block,
        "cmp_stride": cmp_stride,
        "sel_block": sel_block,
        "sel_count": sel_count,
        "window": window,
        "phi": phi,
    }
    dtypes = GUIDE.dtype if dtype is None else {"cuda": dtype, "cpu": dtype}
    settings = decode_settings(
        batch=batch, dtype=dtypes, model=model, iters=iters, warmup=warmup, processes=processes, seed=seed
    )

    for warning in backends.warnings():
        typer.echo(f"warning: {warning}", err=True)

    from nsa.cli import console

    try:
        contexts = parse_contexts(S_list)
        require(max(contexts) <= max_context, "--S_list", max(contexts), f"at most --max_context = {max_context}")
        if not console.bench(settings, contexts, choose_backend(backend, flags), device, flags, csv):
            raise typer.Exit(1)
    except KeyboardInterrupt:
        kept = f"; {csv} has the contexts above" if csv is not None else ""
        typer.echo(f"interrupted{kept}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def decode_settings(**options: object) -> DecodeSettings:
    """The settings that options name, checked as config.yaml is.

    Raises:
        ConfigError: names the option, its value and what was expected.
    """
    try:
        return parse(DecodeSettings, options, "bench", complete=False)
    except ConfigError as error:
        raise ConfigError("--" + str(error).removeprefix("bench: ").removeprefix("model.")) from error


def parse_contexts(text: str) -> tuple[int, ...]:
    """The contexts of --S_list, in the order given.

    Raises:
        ConfigError: not a list of distinct whole numbers, or one is 0 or too large.
    """
    parts = [part.strip() for part in text.split(",")]
    contexts = tuple(
        int(part) for part in parts if part.isascii() and part.isdecimal() and len(part) <= len(str(MAX_INT32))
    )
    valid = len(set(contexts)) == len(parts) and all(1 <= S <= MAX_INT32 for S in contexts)
    require(valid, "--S_list", text, f"distinct whole numbers from 1 to {MAX_INT32}, such as 128,256")
    return contexts


def choose_backend(option: str | None, flags: Flags) -> str:
    """The backend that was asked for, by --backend or by a flag; sdpa when neither asks.

    Raises:
        ConfigError: the name is unknown, or the requests contradict each other.
    """
    known = backends.names()
    if option is not None and option in backends.broken():
        raise ConfigError(f"--backend: got {option!r}, expected one that can be used: {backends.broken()[option].why}")
    require(option is None or option in known, "--backend", option, "one of " + ", ".join(known))
    asked = dict.fromkeys((*flags.requested, *([option] if option else [])))
    if len(asked) > 1:
        raise ConfigError(
            f"backend: --backend and the NSA_* flags ask for {' and '.join(asked)}, expected one; drop all but one"
        )
    return next(iter(asked), "sdpa")
