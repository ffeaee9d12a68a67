"""The command line: one command per rule of the pipeline, and the guide's console commands; nothing is computed here.

Each command imports its stage when it runs, so that a command that needs no torch starts without it.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nsa.config import BACKENDS, DecodeSettings, Flags
from nsa.errors import ConfigError, NsaError
from nsa.shapes import NsaShape, require

GUIDE = DecodeSettings()
SHAPE = NsaShape()
DEVICES = ("auto", "cuda", "cpu")
DTYPES = ("float32", "float16", "bfloat16")

app = typer.Typer(
    help="The NSA decode benchmark: each rule of the Snakefile is one of these commands.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Backend = Annotated[str, typer.Option(help="The backend that runs; no other takes its place.")]
Stamp = Annotated[Path, typer.Option(help="The stage's stamp: its settings are read from here.")]
Environment = Annotated[Path, typer.Option(help="The environment stage's record.")]
Build = Annotated[Path | None, typer.Option(help="The build stage's manifest; only the cuda backend needs it.")]
Out = Annotated[Path, typer.Option(help="The record to write.")]
OutDir = Annotated[Path, typer.Option(help="The folder to write to.")]


def main() -> None:
    """Run a command; an error of ours is one line on stderr and exit status 2."""
    try:
        app()
    except NsaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


@app.command()
def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines to read.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here instead of printing it.")] = None,
) -> None:
    """Say which hardware and software this is (guide, "Sanity check")."""
    from nsa import records
    from nsa.bench import environment

    facts = environment.probe()
    text = json.dumps(facts, indent=2)
    if out is not None:
        records.write_text(out, text + "\n")
    else:
        print(text if as_json else environment.describe(facts))


@app.command()
def build(stamp: Stamp, out_dir: OutDir) -> None:
    """Build the CUDA extension, or record why it was skipped or failed."""
    from nsa import stamps
    from nsa.kernels.cuda import build as extension

    manifest = extension.build(stamps.read(stamp)["settings"]["cuda"], out_dir)
    print(": ".join(str(manifest[key]) for key in ("status", "reason", "log") if manifest[key] is not None))


@app.command()
def decode(
    backend: Backend,
    S: Annotated[int, typer.Option("--S", help="Tokens in the cache, the current one included.")],
    stamp: Stamp,
    environment: Environment,
    out: Out,
    build: Build = None,
) -> None:
    """Measure one decode cell: a backend at S tokens."""
    from nsa import process, stamps
    from nsa.bench.decode import run_cell

    process.die_with_parent()
    run_cell(backend, S, stamps.read(stamp), environment, build, out)


@app.command()
def collect(cells: list[Path], stamp: Stamp, out: Out) -> None:
    """Summarise the cells of one backend as one table."""
    from nsa import stamps
    from nsa.report import summary

    summary.collect(cells, out, stamps.read(stamp)["settings"]["confidence"])


@app.command()
def kernel_check(
    backend: Backend,
    stamp: Stamp,
    environment: Environment,
    out: Out,
    build: Build = None,
) -> None:
    """Check a backend on the acceptance grid: correctness, and its speedup over packed SDPA."""
    from nsa import process, stamps
    from nsa.bench import kernel_check

    process.die_with_parent()
    kernel_check.run(backend, stamps.read(stamp), environment, build, out)


@app.command()
def dram(
    backend: Backend,
    stamp: Stamp,
    environment: Environment,
    out: Out,
    build: Build = None,
) -> None:
    """Count the DRAM bytes of a backend's kernel with ncu, or record why nothing was counted."""
    from nsa import process, stamps
    from nsa.bench import dram as counters

    process.die_with_parent()
    counters.run(backend, stamps.read(stamp), environment, build, out)


@app.command()
def report(
    records: Annotated[list[Path], typer.Argument(help="Cells (S*), summaries (decode_*), check_* and dram_*.")],
    stamp: Stamp,
    environment: Environment,
    out_dir: OutDir,
    build: Build = None,
) -> None:
    """Decide both gates from the records, and write the report; the verdict is no exit status, see `check`."""
    from nsa import stamps
    from nsa.report import render

    def named(prefix: str) -> list[Path]:
        return [path for path in records if path.name.startswith(prefix)]

    stamped = stamps.read(stamp)["settings"]
    render.report(
        environment=environment,
        build=build,
        summaries=named("decode_"),
        cells=named("S"),
        checks=named("check_"),
        dram=named("dram_"),
        stamps=stamps.digests(stamp.parent),
        settings=render.ReportSettings.from_dict(stamped),
        echo=stamped["config"],
        out_dir=out_dir,
    )
    (out_dir / "figures").mkdir(exist_ok=True)  # the rule's output, drawn or not


@app.command()
def check(
    gate: Annotated[Path, typer.Argument(help="The report's gate.json.")] = Path("results/gate.json"),
    exit_status: Annotated[bool, typer.Option(help="End with the verdict's exit status.")] = True,
) -> None:
    """Say the verdict, and turn it into an exit status: 0 decided, 1 failed or inconclusive, 3 not measured."""
    from nsa.report import gates

    status, line = gates.exit_status(gate)
    print(line)
    if exit_status:
        raise typer.Exit(status)


@app.command()
def summarize(
    csv: Annotated[Path, typer.Argument(help="A decode.csv, or a decode_*.parquet.")],
    config: Annotated[Path, typer.Option(help="Where the gate's thresholds are read from.")] = Path("config.yaml"),
) -> None:
    """Print each context's total, branch shares and reads (guide, "Summarize Results")."""
    from rich.console import Console

    from nsa.config import load
    from nsa.report import guide

    Console(highlight=False).print(guide.summarize(csv, load(config, os.environ).gates))


@app.command()
def bench(
    S_list: Annotated[str, typer.Option("--S_list", help="Contexts, comma-separated.")] = "128,256,512,1024",
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
    """Measure decode steps and print the guide's table (guide, "Run the Decode Bench")."""
    flags = Flags.from_env(os.environ)
    require(device in DEVICES, "--device", device, "one of " + ", ".join(DEVICES))
    require(dtype is None or dtype in DTYPES, "--dtype", dtype, "one of " + ", ".join(DTYPES))
    counts = {"--iters": iters, "--processes": processes, "--batch": batch, "--warmup": warmup, "--seed": seed}
    for option, value in counts.items():
        least = 0 if option in ("--warmup", "--seed") else 1
        require(value >= least, option, value, f"a whole number of at least {least}")
    model = NsaShape(
        dim=dim,
        heads=heads,
        groups=groups,
        head_dim=head_dim,
        value_dim=value_dim,
        cmp_block=cmp_block,
        cmp_stride=cmp_stride,
        sel_block=sel_block,
        sel_count=sel_count,
        window=window,
        phi=phi,
    )
    dtypes = GUIDE.dtype if dtype is None else {"cuda": dtype, "cpu": dtype}
    settings = DecodeSettings(
        model=model, batch=batch, dtype=dtypes, iters=iters, warmup=warmup, processes=processes, seed=seed
    )

    from nsa import console

    console.bench(settings, parse_contexts(S_list), choose_backend(backend, flags), device, flags, csv)


def parse_contexts(text: str) -> tuple[int, ...]:
    """The contexts of --S_list, in the order given.

    Raises:
        ConfigError: not a list of distinct whole numbers of at least 1.
    """
    parts = [part.strip() for part in text.split(",")]
    valid = all(part.isdecimal() and int(part) >= 1 for part in parts) and len(set(parts)) == len(parts)
    require(valid, "--S_list", text, "distinct whole numbers of at least 1, such as 128,256")
    return tuple(int(part) for part in parts)


def choose_backend(option: str | None, flags: Flags) -> str:
    """The backend that was asked for, by --backend or by a flag; sdpa when neither asks.

    Raises:
        ConfigError: the name is unknown, or the requests contradict each other.
    """
    require(option is None or option in BACKENDS, "--backend", option, "one of " + ", ".join(BACKENDS))
    asked = dict.fromkeys((*flags.requested, *([option] if option else [])))
    if len(asked) > 1:
        raise ConfigError(
            f"backend: --backend and the NSA_* flags ask for {' and '.join(asked)}, expected one; drop all but one"
        )
    return next(iter(asked), "sdpa")
