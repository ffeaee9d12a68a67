"""One command per rule of the Snakefile; `env`, which users type too, is the only one that help lists."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from nsa.cli.app import app
from nsa.layout import ACCEPTED, HISTORY, Layout, backend_of, cell_of
from nsa.machine.process import announce

Backend = Annotated[str, typer.Option(help="The backend that runs; no other takes its place.")]
Stamp = Annotated[Path, typer.Option(help="The stage's stamp: its settings are read from here.")]
Environment = Annotated[Path, typer.Option(help="The environment stage's record.")]
Artifacts = Annotated[
    list[Path] | None, typer.Option(help="What a backend's own stage made before; its place says whose it is.")
]
Out = Annotated[Path, typer.Option(help="The record to write.")]
Table = Annotated[Path, typer.Option(help="Where its figures go, as Parquet.")]
Drawing = Annotated[Path, typer.Option(help="Where they go drawn, as SVG.")]
OutDir = Annotated[Path, typer.Option(help="The folder to write to.")]
MEASURES = {  # of one backend: the command, where its stage lies, and what it does
    "kernel-check": (
        "nsa.bench.check.stage",
        "Check a backend on the acceptance grid: correctness, and its speedup over packed SDPA.",
    ),
    "core-check": (
        "nsa.bench.core.stage",
        "Check a backend's decode core: correctness, and its time beside dense attention.",
    ),
    "core-curve": (
        "nsa.bench.core_curve.stage",
        "Time a backend's decode core over S and B, or record why nothing was timed.",
    ),
    "dram": (
        "nsa.bench.dram.stage",
        "Count the DRAM bytes of a backend's kernel with ncu, or record why nothing was counted.",
    ),
}


@app.command()
def env(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines to read.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here instead of printing it.")] = None,
) -> None:
    """Say which hardware and software this is."""
    from nsa.machine import environment
    from nsa.records import files

    facts = environment.probe()
    if facts.unused_gpu:
        announce(f"{facts.unused_gpu}; {facts.fix}. Until then all runs on the CPU, which decides nothing.")
    if out is not None:
        files.write_model(out, facts)
    else:
        print(facts.model_dump_json(indent=2) if as_json else environment.describe(facts))


@app.command(hidden=True)
def artifact(backend: Backend, stamp: Stamp, environment: Environment, out: Out) -> None:
    """Make what a backend needs before it is measured (a build, a tuning), or record why there is none."""
    from nsa.bench import artifact as stage

    stage.run(backend, stamp, environment, out)


@app.command(hidden=True)
def decode(
    backend: Backend,
    S: Annotated[int, typer.Option("--S", help="Tokens in the cache, the current one included.")],
    stamp: Stamp,
    environment: Environment,
    out: Out,
    artifacts: Artifacts = None,
) -> None:
    """Measure one decode cell: a backend at S tokens."""
    from nsa.bench.decode import stage

    stage.run(backend, S, stamp, environment, artifacts or (), out)


def measure(stage: str) -> Callable[[str, Path, Path, Path, list[Path] | None], None]:
    """The command of a stage that measures one backend."""

    def command(
        backend: Backend, stamp: Stamp, environment: Environment, out: Out, artifacts: Artifacts = None
    ) -> None:
        importlib.import_module(stage).run(backend, stamp, environment, artifacts or (), out)

    return command


for name, (module, text) in MEASURES.items():
    app.command(name, help=text, hidden=True)(measure(module))


@app.command(hidden=True)
def collect(cells: list[Path], stamp: Stamp, out: Out) -> None:
    """Summarise the cells of one backend as one table."""
    from nsa.pipeline import stamps
    from nsa.report.analysis import summary

    stamped = stamps.read(stamp)
    confidence = stamped.settings["confidence"]
    assert isinstance(confidence, float)
    summary.collect(cells, out, confidence, stamped.carried)


@app.command(hidden=True)
def paper_table(
    stamp: Stamp,
    out: Out,
    table: Table,
    drawing: Drawing,
    records: Annotated[list[Path] | None, typer.Argument(help="Core checks.")] = None,
) -> None:
    """Write the paper's table 4 on this machine's clock, from the records of the core check."""
    from nsa.pipeline import stamps
    from nsa.report.page import paper_table as page
    from nsa.report.page.core_records import CorePage
    from nsa.settings import parse

    settings = parse(CorePage, stamps.read(stamp).settings, str(stamp))
    page.report(records or (), stamps.digests(stamp.parent), settings, out, table, drawing)


@app.command(hidden=True)
def core_curve_report(
    stamp: Stamp,
    out: Out,
    table: Table,
    drawing: Drawing,
    records: Annotated[list[Path] | None, typer.Argument(help="Records of core-curve.")] = None,
) -> None:
    """Write how a decode core's time grows with S and B, beside the memory floor."""
    from nsa.pipeline import stamps
    from nsa.report.page import core_curve as page
    from nsa.settings import parse

    settings = parse(page.CoreCurve, stamps.read(stamp).settings, str(stamp))
    page.report(records or (), stamps.digests(stamp.parent), settings, out, table, drawing)


@app.command(hidden=True)
def roofline(stamp: Stamp, environment: Environment, out: Out, artifacts: Artifacts = None) -> None:
    """Time every backend on the shapes of the roofline in one run, or record why nothing was timed."""
    from nsa.bench.roofline import stage

    stage.run(stamp, environment, artifacts or (), out)


@app.command(hidden=True)
def roofline_report(record: Path, stamp: Stamp, out: Out) -> None:
    """Write the table of how far each backend's kernel is from the memory floor."""
    from nsa.pipeline import stamps
    from nsa.report.analysis.roofline import RooflineReport
    from nsa.report.page import roofline as page
    from nsa.settings import parse

    settings = parse(RooflineReport, stamps.read(stamp).settings, str(stamp))
    page.report(record, stamps.digests(stamp.parent), settings, out)


@app.command(hidden=True)
def report(
    records: Annotated[list[Path], typer.Argument(help="Decode cells, kernel and core checks, and DRAM counts.")],
    stamp: Stamp,
    environment: Environment,
    out_dir: OutDir,
    artifacts: Artifacts = None,
    accepted: Annotated[Path, typer.Option(help="The folder of accepted runs.")] = ACCEPTED,
    history: Annotated[Path, typer.Option(help="The folder of histories, to which the run is added.")] = HISTORY,
) -> None:
    """Decide both gates from the records, and write the report; the verdict is no exit status, see `check`."""
    from nsa.config import recorded
    from nsa.pipeline import stamps
    from nsa.report.page import render

    layout = Layout(out_dir)
    of = {path: backend_of(path) for path in records}
    render.report(
        environment=environment,
        artifacts=artifacts or (),
        cells=[path for path in records if cell_of(path) is not None],
        checks=[
            path for path, backend in of.items() if backend is not None and path.name == layout.check(backend).name
        ],
        dram=[path for path, backend in of.items() if backend is not None and path.name == layout.dram(backend).name],
        stamps=stamps.digests(stamp.parent),
        config=recorded(stamps.read(stamp).settings, stamp),
        out_dir=out_dir,
        accepted=accepted,
        history=history,
        cores=[path for path in records if path == layout.core(path.stem)],
    )
    layout.figures.mkdir(exist_ok=True)  # the rule's output, drawn or not
