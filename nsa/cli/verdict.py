"""What a finished run says: its verdicts as an exit status."""

from __future__ import annotations

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
    from nsa.report import gates

    status, line = gates.exit_status(gate)
    print(line)
    if exit_status:
        raise typer.Exit(status)
