"""What a finished run says: its verdicts, what is wrong with its folder, whether later runs are compared with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nsa.cli.app import app


@app.command()
def check(
    gate: Annotated[Path, typer.Argument(help="The report's gate.json.")] = Path("results/gate.json"),
    exit_status: Annotated[bool, typer.Option(help="End with the verdict's exit status.")] = True,
) -> None:
    """Say the verdict, and turn it into an exit status: 0 decided, 1 failed or inconclusive, 3 not measured."""
    from nsa.report.verdict import gates

    status, line = gates.exit_status(gate)
    print(line)
    if exit_status:
        raise typer.Exit(status)


@app.command()
def accept(
    results: Annotated[Path, typer.Option(help="The folder of the run.")] = Path("results"),
    accepted: Annotated[Path, typer.Option(help="The folder of accepted runs, one file for each GPU model.")] = Path(
        "accepted"
    ),
    cpu: Annotated[bool, typer.Option("--cpu", help="Keep a run without a GPU too, as a model of its own.")] = False,
) -> None:
    """Keep today's records as the accepted run of their GPU model; later reports say what changed since."""
    from nsa.config import Config
    from nsa.machine.fingerprint import fingerprint
    from nsa.pipeline import stamps
    from nsa.records import files
    from nsa.report.accepted.keep import keep
    from nsa.report.verdict.run import ReportSettings, read_run

    stamped = stamps.read(results / ".stamps" / "report.json")["settings"]
    config = Config.from_dict(stamped["config"], os.environ)
    today = stamps.today(config, fingerprint())
    run = read_run(
        files.read_json(results / "environment.json"),
        [results / f"decode_{backend}.parquet" for backend in config.backends],
        [results / "decode" / backend / f"S{S}.parquet" for backend in config.backends for S in config.contexts],
        [results / f"check_{backend}.parquet" for backend in config.backends],
        today,
        ReportSettings.from_dict(stamped),
    )
    print(keep(run, today, config.raw, accepted, cpu=cpu))


@app.command()
def doctor(
    results: Annotated[Path, typer.Option(help="The folder to examine.")] = Path("results"),
    config: Annotated[Path, typer.Option(help="The configuration that it is meant to be of.")] = Path("config.yaml"),
) -> None:
    """Find what is wrong with a results folder, and say how to fix it: exit status 0 when it is sound, 1 if not."""
    from nsa.config import load
    from nsa.machine.fingerprint import fingerprint
    from nsa.pipeline import doctor as physician

    found = physician.examine(results, load(config, os.environ), fingerprint())
    for finding in found:
        print(finding)
    if found:
        raise typer.Exit(1)
    print(f"{results}: sound")
