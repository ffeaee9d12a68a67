"""What users ask of a results folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from nsa.cli.app import app


@app.command()
def doctor(
    results: Annotated[Path, typer.Option(help="The folder to examine.")] = Path("results"),
    config: Annotated[Path, typer.Option(help="The configuration that it is meant to be of.")] = Path("config.yaml"),
) -> None:
    """Find what is wrong with a results folder, and say how to mend it: exit status 0 when it is sound, 1 if not."""
    from nsa import doctor as physician
    from nsa.config import load
    from nsa.fingerprint import fingerprint

    found = physician.examine(results, load(config, os.environ), fingerprint())
    for finding in found:
        print(finding)
    if found:
        raise typer.Exit(1)
    print(f"{results}: sound")
