"""The application that every command registers with; its help shows what users type, and what an exit status means."""

from __future__ import annotations

from typing import Annotated

import typer

EPILOG = """\b
Exit status:
  0  done; of check: both gates decided, and nothing is wrong
  1  check: rejected, wrong, failed, blocked, slower or inconclusive;
     bench: a context without figures; doctor: a fault;
     summarize: reads that differ
  2  an error, told in one line
  3  check: not measured, as without a GPU

\b
The rules of the Snakefile run, each with -h of its own:
  artifact, collect, core-check, core-curve, core-curve-report, decode,
  dram, kernel-check, paper-table, report, roofline, roofline-report"""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def show_version(asked: bool) -> None:
    """Print the version and end."""
    if asked:
        from nsa.machine.fingerprint import package_version

        typer.echo(f"nsa-bench {package_version('nsa-bench') or 'of a checkout that is not installed'}")
        raise typer.Exit


@app.callback(epilog=EPILOG)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """The NSA decode benchmark: `snakemake` runs it, these commands ask what came of it, or measure by hand."""
