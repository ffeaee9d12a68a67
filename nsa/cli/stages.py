"""One command per rule of the Snakefile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nsa.cli.app import app

Backend = Annotated[str, typer.Option(help="The backend that runs; no other takes its place.")]
Stamp = Annotated[Path, typer.Option(help="The stage's stamp: its settings are read from here.")]
Environment = Annotated[Path, typer.Option(help="The environment stage's record.")]
Build = Annotated[Path | None, typer.Option(help="The build stage's manifest, to be shown.")]
Prepared = Annotated[
    list[Path] | None,
    typer.Option(help="What a backend's own stage made before; its name is the backend's: cuda.json, triton.json."),
]
Out = Annotated[Path, typer.Option(help="The record to write.")]
OutDir = Annotated[Path, typer.Option(help="The folder to write to.")]


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

    stamped = stamps.read(stamp)
    manifest = extension.build(stamped["settings"]["cuda"], out_dir, facts={"stamp": stamps.carried(stamped)})
    print(": ".join(str(manifest[key]) for key in ("status", "reason", "log") if manifest[key] is not None))


@app.command()
def tune(stamp: Stamp, environment: Environment, out: Out) -> None:
    """Measure which cut of the Triton kernel is fastest for every size to be measured, or record why none was."""
    from nsa import stamps
    from nsa.bench import tune as stage

    stage.run(stamps.read(stamp), environment, out)


@app.command()
def decode(
    backend: Backend,
    S: Annotated[int, typer.Option("--S", help="Tokens in the cache, the current one included.")],
    stamp: Stamp,
    environment: Environment,
    out: Out,
    prepared: Prepared = None,
) -> None:
    """Measure one decode cell: a backend at S tokens."""
    from nsa import stamps
    from nsa.bench.decode import run_cell

    run_cell(backend, S, stamps.read(stamp), environment, prepared or (), out)


@app.command()
def collect(cells: list[Path], stamp: Stamp, out: Out) -> None:
    """Summarise the cells of one backend as one table."""
    from nsa import stamps
    from nsa.report import summary

    stamped = stamps.read(stamp)
    summary.collect(cells, out, stamped["settings"]["confidence"], {"stamp": stamps.carried(stamped)})


@app.command()
def kernel_check(
    backend: Backend,
    stamp: Stamp,
    environment: Environment,
    out: Out,
    prepared: Prepared = None,
) -> None:
    """Check a backend on the acceptance grid: correctness, and its speedup over packed SDPA."""
    from nsa import stamps
    from nsa.bench import kernel_check

    kernel_check.run(backend, stamps.read(stamp), environment, prepared or (), out)


@app.command()
def dram(
    backend: Backend,
    stamp: Stamp,
    environment: Environment,
    out: Out,
    prepared: Prepared = None,
) -> None:
    """Count the DRAM bytes of a backend's kernel with ncu, or record why nothing was counted."""
    from nsa import stamps
    from nsa.bench import dram as counters

    counters.run(backend, stamps.read(stamp), environment, prepared or (), out)


@app.command()
def roofline(stamp: Stamp, environment: Environment, out: Out, prepared: Prepared = None) -> None:
    """Time every backend on the shapes of the roofline in one run, or record why nothing was timed."""
    from nsa import stamps
    from nsa.bench import roofline as stage

    stage.run(stamps.read(stamp), environment, prepared or (), out)


@app.command()
def roofline_report(record: Path, stamp: Stamp, out: Out) -> None:
    """Write the table of how far each backend's kernel is from the memory floor."""
    from nsa import stamps
    from nsa.report import roofline as page
    from nsa.report.roofline_figures import RooflineReport

    settings = RooflineReport.from_dict(stamps.read(stamp)["settings"])
    page.report(record, stamps.digests(stamp.parent), settings, out)


@app.command()
def report(
    records: Annotated[list[Path], typer.Argument(help="Cells (S*), summaries (decode_*), check_* and dram_*.")],
    stamp: Stamp,
    environment: Environment,
    out_dir: OutDir,
    build: Build = None,
    baselines: Annotated[Path, typer.Option(help="The folder of accepted runs.")] = Path("baselines"),
) -> None:
    """Decide both gates from the records, and write the report; the verdict is no exit status, see `check`."""
    from nsa import stamps
    from nsa.report import render, run

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
        settings=run.ReportSettings.from_dict(stamped),
        echo=stamped["config"],
        out_dir=out_dir,
        baselines=baselines,
    )
    (out_dir / "figures").mkdir(exist_ok=True)  # the rule's output, drawn or not
