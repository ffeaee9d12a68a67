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
Artifacts = Annotated[
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
    from nsa.machine import environment
    from nsa.records import files

    facts = environment.probe()
    text = json.dumps(facts, indent=2)
    if out is not None:
        files.write_text(out, text + "\n")
    else:
        print(text if as_json else environment.describe(facts))


@app.command()
def build(stamp: Stamp, out_dir: OutDir) -> None:
    """Build the CUDA extension, or record why it was skipped or failed."""
    from nsa.kernels.cuda import build as extension
    from nsa.pipeline import stamps

    stamped = stamps.read(stamp)
    manifest = extension.build(stamped["settings"]["cuda"], out_dir, facts={"stamp": stamps.carried(stamped)})
    print(": ".join(str(manifest[key]) for key in ("status", "reason", "log") if manifest[key] is not None))


@app.command()
def tune(stamp: Stamp, environment: Environment, out: Out) -> None:
    """Measure which cut of the Triton kernel is fastest for every size to be measured, or record why none was."""
    from nsa.bench.tune import stage
    from nsa.pipeline import stamps

    stage.run(stamps.read(stamp), environment, out)


@app.command()
def decode(
    backend: Backend,
    S: Annotated[int, typer.Option("--S", help="Tokens in the cache, the current one included.")],
    stamp: Stamp,
    environment: Environment,
    out: Out,
    artifacts: Artifacts = None,
) -> None:
    """Measure one decode cell: a backend at S tokens."""
    from nsa.bench.decode.stage import run_cell
    from nsa.pipeline import stamps

    run_cell(backend, S, stamps.read(stamp), environment, artifacts or (), out)


@app.command()
def collect(cells: list[Path], stamp: Stamp, out: Out) -> None:
    """Summarise the cells of one backend as one table."""
    from nsa.pipeline import stamps
    from nsa.report.analysis import summary

    stamped = stamps.read(stamp)
    summary.collect(cells, out, stamped["settings"]["confidence"], {"stamp": stamps.carried(stamped)})


@app.command()
def kernel_check(
    backend: Backend,
    stamp: Stamp,
    environment: Environment,
    out: Out,
    artifacts: Artifacts = None,
) -> None:
    """Check a backend on the acceptance grid: correctness, and its speedup over packed SDPA."""
    from nsa.bench.check import stage as kernel_check
    from nsa.pipeline import stamps

    kernel_check.run(backend, stamps.read(stamp), environment, artifacts or (), out)


@app.command()
def dram(
    backend: Backend,
    stamp: Stamp,
    environment: Environment,
    out: Out,
    artifacts: Artifacts = None,
) -> None:
    """Count the DRAM bytes of a backend's kernel with ncu, or record why nothing was counted."""
    from nsa.bench.dram import stage as counters
    from nsa.pipeline import stamps

    counters.run(backend, stamps.read(stamp), environment, artifacts or (), out)


@app.command()
def roofline(stamp: Stamp, environment: Environment, out: Out, artifacts: Artifacts = None) -> None:
    """Time every backend on the shapes of the roofline in one run, or record why nothing was timed."""
    from nsa.bench.roofline import stage
    from nsa.pipeline import stamps

    stage.run(stamps.read(stamp), environment, artifacts or (), out)


@app.command()
def roofline_report(record: Path, stamp: Stamp, out: Out) -> None:
    """Write the table of how far each backend's kernel is from the memory floor."""
    from nsa.pipeline import stamps
    from nsa.report.analysis.roofline import RooflineReport
    from nsa.report.page import roofline as page

    settings = RooflineReport.from_dict(stamps.read(stamp)["settings"])
    page.report(record, stamps.digests(stamp.parent), settings, out)


@app.command()
def report(
    records: Annotated[list[Path], typer.Argument(help="Cells (S*), summaries (decode_*), check_* and dram_*.")],
    stamp: Stamp,
    environment: Environment,
    out_dir: OutDir,
    build: Build = None,
    accepted: Annotated[Path, typer.Option(help="The folder of accepted runs.")] = Path("accepted"),
) -> None:
    """Decide both gates from the records, and write the report; the verdict is no exit status, see `check`."""
    from nsa.pipeline import stamps
    from nsa.report.page import render
    from nsa.report.verdict import run

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
        accepted=accepted,
    )
    (out_dir / "figures").mkdir(exist_ok=True)  # the rule's output, drawn or not
