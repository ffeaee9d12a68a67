"""The application that every command registers with."""

from __future__ import annotations

import typer

app = typer.Typer(
    help="The NSA decode benchmark: each rule of the Snakefile is one of these commands.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
