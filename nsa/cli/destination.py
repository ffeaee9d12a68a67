"""Where a user asks for a file: refused before anything is measured that could not be kept there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from nsa.errors import RecordError


def writable(path: Path) -> Path:
    """The file that a path names, links followed, once it is sure that a file can be written there.

    Raises:
        RecordError: its folder is missing or takes no file; or it is a folder, a device, a pipe or a socket, which the
            file would take the place of.
    """
    try:
        target = path.resolve()
        there = target.exists()
    except (OSError, RuntimeError) as error:  # a link that leads to itself, a name that is too long
        raise _refused(path, str(error), "the name of a file") from error
    if there and not target.is_file():
        raise _refused(path, "it is a folder, a device or a pipe", "a file, or a name that is free")
    if there and not os.access(target, os.W_OK):
        raise _refused(path, "it is read-only", "a file that may be replaced")
    if not target.parent.is_dir():
        raise _refused(path, f"no folder {target.parent}", "an existing folder")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            return target
    except OSError as error:
        raise _refused(path, f"{target.parent}: {error.strerror}", "a folder that takes files") from error


def _refused(path: Path, why: str, expected: str) -> RecordError:
    return RecordError(f"{path}: cannot be written ({why}); expected {expected}")
