"""The command line: one command per rule of the pipeline, and what users type; nothing is computed here.

Each command imports its stage when it runs, so that a command that needs no torch starts without it.
"""

from __future__ import annotations

import sys

from nsa.cli import guide, stages, verdict
from nsa.cli.app import app
from nsa.errors import NsaError

__all__ = ["app", "guide", "main", "stages", "verdict"]


def main() -> None:
    """Run a command; an error of ours is one line on stderr and exit status 2."""
    try:
        app()
    except NsaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
