"""Files written atomically: what is half-written has another name, and counts as nothing."""

from __future__ import annotations

import glob
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nsa.errors import RecordError

TEMPORARY = ".tmp"  # ends the name of what is being written, or was when its writer was killed


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target, renamed onto it only when nothing failed.

    A target has one writer at a time, so what a killed one has left of it is cleared away.

    Raises:
        RecordError: the target cannot be written: a read-only folder, a full disk.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
            left.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o644)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)  # Arrow's own text is longer
        raise RecordError(f"{path}: cannot be written ({why}); expected a writable folder with space left") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON record.

    Raises:
        RecordError: it is missing, no JSON, or no object.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); run `snakemake {path}` first") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not JSON ({error}); delete it and rerun") from error
    if not isinstance(content, dict):
        raise RecordError(f"{path}: got a JSON {type(content).__name__}, expected an object; delete it and rerun")
    return content
