"""What a finished run says: its verdicts, what is wrong with its folder, whether later runs are compared with it.

And how it is shared: as one file, which opens elsewhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nsa.cli.app import app
from nsa.errors import RecordError
from nsa.layout import ACCEPTED, RESULTS, Layout

CONFIG, GATE = Path("config.yaml"), Layout().gate


@app.command()
def check(
    gate: Annotated[Path, typer.Argument(help="The report's gate.json.")] = GATE,
    exit_status: Annotated[bool, typer.Option(help="End with the verdict's exit status.")] = True,
) -> None:
    """Say both gates' verdicts.

    The exit status is 0 decided, 1 failed or inconclusive, 2 an error, 3 not measured.
    """
    from nsa.report.verdict import exit as verdict

    if gate != GATE and not gate.is_file():
        raise RecordError(f"{gate}: no such file, expected the gate.json of a report, such as {GATE}")
    said = verdict.read(gate)
    print("\n".join((*said.lines, f"report: {Layout(gate.parent).html}")))
    if exit_status:
        raise typer.Exit(said.status)


@app.command()
def accept(
    results: Annotated[Path, typer.Option(help="The folder of the run.")] = RESULTS,
    accepted: Annotated[
        Path, typer.Option(help="The folder of accepted runs, one file for each GPU model.")
    ] = ACCEPTED,
    cpu: Annotated[bool, typer.Option("--cpu", help="Keep a run without a GPU too, as a model of its own.")] = False,
) -> None:
    """Keep the run that is there as the accepted one of its GPU.

    Later reports of the same GPU model say what changed.
    """
    from nsa.machine.fingerprint import fingerprint
    from nsa.pipeline import finished, stamps
    from nsa.records import files
    from nsa.records.facts import Environment
    from nsa.report.accepted.keep import keep
    from nsa.report.accepted.reported import refuse_others
    from nsa.report.verdict.run import read_run

    layout = Layout(results)
    config = finished.reported(layout)
    today = stamps.today(config, fingerprint(), accepted)
    run = read_run(
        files.read_model(layout.environment, Environment),
        [layout.cell(backend, S) for backend in config.backends for S in config.contexts],
        [layout.check(backend) for backend in config.selecting],
        today,
        config,
        [layout.core(backend) for backend in config.coring],
    )
    refuse_others(run, files.read_json(layout.gate), layout.gate)
    print(keep(run, config, accepted, cpu=cpu))


@app.command()
def doctor(
    results: Annotated[Path, typer.Option(help="The folder to examine.")] = RESULTS,
    config: Annotated[
        Path, typer.Option(help="The configuration of the next run; where the last one had another, a note says so.")
    ] = CONFIG,
) -> None:
    """Find what is wrong with a results folder, and how to fix it.

    The exit status is 0 when it is sound, 1 if not.
    """
    from nsa.config import load
    from nsa.machine.fingerprint import cuda_expected, fingerprint
    from nsa.pipeline import doctor as physician

    facts = fingerprint()
    given = load(config, os.environ, lambda: cuda_expected(facts), under=CONFIG)
    found = physician.examine(Layout(results), given, config, facts)
    for finding in found:
        print(finding)
    if any(finding.fault for finding in found):
        raise typer.Exit(1)
    print(f"{results}: sound")


@app.command()
def bundle(
    results: Annotated[Path, typer.Option(help="The folder of the run.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("nsa-run.zip"),
) -> None:
    """Pack a finished run into one file to share.

    It holds the report, records, configuration, environment, logs and digests.
    """
    from nsa.cli.destination import writable
    from nsa.pipeline.bundle import pack

    digest = pack(Layout(results), writable(out))
    print(f"{out}: sha256 {digest}; `python -m nsa open {out}` opens it elsewhere")


@app.command("open")
def open_(
    bundle: Annotated[Path, typer.Argument(help="What `nsa bundle` wrote.")],
    to: Annotated[Path | None, typer.Option(help="The new folder. Default: the bundle's name without .zip.")] = None,
) -> None:
    """Unpack a bundle, and say its verdicts and where its report is.

    Its digests are checked first.
    """
    from nsa.pipeline.bundle import unpack
    from nsa.pipeline.progress import verdicts

    for line in verdicts(unpack(bundle, to or bundle.with_suffix(""))):
        print(line)
