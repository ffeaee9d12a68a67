"""The command line: one command per rule of the pipeline, and what users type; nothing is computed here.

Each command imports its stage when it runs, so that a command that needs no torch starts without it. The guide's
commands, whose options have the configuration's defaults, are imported where no other command is asked for.
"""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from typer import BadParameter
from typer.main import get_command_name

from nsa.cli import history, stages, verdict
from nsa.cli.app import app
from nsa.errors import NsaError
from nsa.machine.process import announce, die_with_run

UsageError: type[BadParameter] = BadParameter.mro()[1]  # click's, or typer's own, which does not export it

__all__ = ["app", "history", "main", "stages", "verdict"]


def main() -> None:
    """Run a command; an error of ours, a wrong option, or a full disk, is one line on stderr and exit status 2."""
    arguments = sys.argv[1:]
    die_with_run()  # first: what it writes after its run was killed would lie among the next run's results
    try:
        register(arguments)
        sys.exit(app(standalone_mode=False))
    except UsageError as error:
        if not arguments:  # its text is the help
            error.show()
            sys.exit(2)
        command = error.ctx.command_path if error.ctx else "nsa"
        _fail(f"error: {error.format_message().rstrip('.')}; `{command} -h` says what there is")
    except NsaError as error:
        _fail(f"error: {error}")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"error: {error.filename or 'a file'}: {error.strerror}, expected room for results and logs; free some")


def register(arguments: Sequence[str]) -> None:
    """Register the guide's commands, unless these arguments are of another one."""
    names = [get_command_name(command.callback.__name__) for command in app.registered_commands if command.callback]
    if not arguments or arguments[0] not in names:
        importlib.import_module("nsa.cli.guide")


def _fail(line: str) -> NoReturn:
    announce(line)
    with suppress(OSError):  # stderr may be a log on the full disk that this line is about
        print(line, file=sys.stderr, flush=True)
    sys.exit(2)
