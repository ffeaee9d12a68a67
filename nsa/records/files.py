"""Files written atomically: what is half-written has another name, and counts as nothing."""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import JsonValue, ValidationError

from nsa.errors import RecordError
from nsa.records.facts import SCHEMA_VERSION
from nsa.records.merge import Model

M = TypeVar("M", bound=Model)
TEMPORARY = ".tmp"  # ends the name of what is being written, or was when its writer was killed


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside the target, renamed onto it only when nothing failed.

    A target has one writer at a time, so what a killed one has left of it is cleared away. The file has the mode that
    the user's umask gives to any new file.

    Raises:
        RecordError: the target cannot be written: a read-only folder, a full disk.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY}"):
            left.unlink(missing_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
        temporary.touch(exist_ok=False)
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


def write_model(path: Path, model: Model) -> None:
    """Write a record as a JSON file, atomically."""
    write_text(path, model.model_dump_json(indent=1) + "\n")


def read_model(path: Path, model: type[M]) -> M:
    """Read a JSON record.

    Raises:
        RecordError: it is missing, no JSON, of an older version of this project, or not what the model says.
    """
    return parse(path, _bytes(path), model)


def read_json(path: Path) -> dict[str, JsonValue]:
    """Read a JSON object whose keys are nobody's business here, such as the artifact of a backend's own stage.

    Raises:
        RecordError: it is missing, no JSON, or no object.
    """
    content = _json(path, _bytes(path))
    if not isinstance(content, dict):
        raise RecordError(f"{path}: got a JSON {type(content).__name__}, expected an object; delete it and rerun")
    return content


def parse(path: Path, content: bytes, model: type[M]) -> M:
    """The model in some JSON; the first thing that is wrong becomes one line.

    Raises:
        RecordError: see read_model.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        found = _json(path, content)
        version = found.get("schema_version") if isinstance(found, dict) else None
        if "schema_version" in model.model_fields and version != SCHEMA_VERSION:
            raise RecordError(
                f"{path}: schema version {version!r}, expected {SCHEMA_VERSION} (see CHANGELOG.md); delete it and rerun"
            ) from error
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise RecordError(
            f"{path}: {where}: {first['msg']}, got {first['input']!r:.80}; delete it and rerun"
        ) from error


def sha256(path: Path) -> str:
    """The digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); run `snakemake {path}` first") from error


def _json(path: Path, content: bytes) -> JsonValue:
    try:
        found: JsonValue = json.loads(content)
    except ValueError as error:
        raise RecordError(f"{path}: is not JSON ({error}); delete it and rerun") from error
    return found
