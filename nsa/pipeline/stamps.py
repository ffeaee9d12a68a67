"""One stamp per stage: the sources, the settings and the machine that its results depend on.

Snakemake compares the content of a rule's inputs, but never looks into an imported module, and without its metadata
not at `params` either. So each rule takes its stage's stamp as an input, and its command reads the settings from it:
what was stamped is what runs. A stamp is rewritten only when it changed, so that only the affected stages run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grimp

from nsa.config import Config
from nsa.errors import RecordError
from nsa.pipeline.stages import ACCEPTED, Stage, sha256, stages

PACKAGE = Path(__file__).parents[1]
# Every stage starts here; its command imports the stage. What users type (guide, verdict) changes no stage.
COMMAND_LINE = ("__main__.py", "cli/__init__.py", "cli/app.py", "cli/stages.py")


def write(config: Config, fingerprint: Mapping[str, str], folder: Path, accepted: Path = ACCEPTED) -> None:
    """Write `{folder}/{stage}.json` for every stage whose stamp is new or has changed.

    Args:
        config: the validated configuration, flags included.
        fingerprint: the facts of this machine, see nsa.machine.fingerprint.
        folder: where the stamps lie; made when it is missing.
        accepted: the folder of accepted runs.

    Raises:
        RecordError: the folder cannot be written: read-only, a full disk.
    """
    graph = grimp.build_graph("nsa", exclude_type_checking_imports=True, cache_dir=None)
    for stage in stages(config, accepted):
        files = sources(stage, graph)
        machine = _machine(stage, fingerprint)
        stamp = {
            "stage": stage.name,
            "sources": {"digest": _digest_files(files), "files": [_relative(file) for file in files]},
            "settings": stage.settings,
            "settings_digest": _digest_json(stage.settings),
            "machine": machine,
            "machine_digest": None if machine is None else _digest_json(machine),
        }
        _write_if_changed(folder / f"{stage.name}.json", json.dumps(stamp, indent=1, sort_keys=True) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Read a stamp: stage, sources (digest, files), settings, settings_digest, machine, machine_digest.

    Raises:
        RecordError: the file is missing or is no stamp.
    """
    try:
        stamp = json.loads(path.read_bytes())
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); expected a stamp, run `snakemake -n`") from error
    except ValueError as error:
        raise RecordError(f"{path}: is not JSON ({error}); delete it and run `snakemake -n`") from error
    if not isinstance(stamp, dict) or "settings" not in stamp:
        raise RecordError(f"{path}: is no stamp (it has no settings); expected a file that `snakemake -n` writes")
    return stamp


def digests(folder: Path) -> dict[str, dict[str, str]]:
    """The digests of every stamp in a folder, by stage: what a record must carry to be of today."""
    found = [read(path) for path in sorted(folder.glob("*.json"))]
    return {stamp["stage"]: carried(stamp) for stamp in found}


def carried(stamp: Mapping[str, Any]) -> dict[str, str]:
    """What a record carries of the stamp that it was made under."""
    return {
        "sources": stamp["sources"]["digest"],
        "settings": stamp["settings_digest"],
        "machine": stamp["machine_digest"],
    }


def today(config: Config, fingerprint: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The digests of the stamps as they would be written now, whatever an earlier parse left in results/."""
    with TemporaryDirectory() as folder:
        write(config, fingerprint, Path(folder))
        return digests(Path(folder))


def sources(stage: Stage, graph: grimp.ImportGraph) -> list[Path]:
    """The files that a stage executes or reads: its import closure, what it loads by name, and the command line."""
    named = {module for module in graph.modules for package in stage.packages if _inside(module, package)}
    files = {_file(module) for module in _closure({stage.entry, *named}, graph)}
    folders = [PACKAGE.parent.joinpath(*package.split(".")) for package in stage.data]
    files |= {file for folder in folders for file in folder.rglob("*") if _is_data(file)}
    return sorted(files | {PACKAGE / name for name in COMMAND_LINE})


def _closure(modules: Iterable[str], graph: grimp.ImportGraph) -> set[str]:
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        todo.extend(graph.find_modules_directly_imported_by(module))
        if parent := module.rpartition(".")[0]:
            todo.append(parent)  # importing a module first runs the __init__ of its packages
    return seen


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _file(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_data(file: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in file.relative_to(PACKAGE).parts)
    return file.is_file() and file.suffix != ".py" and not hidden


def _relative(file: Path) -> str:
    return file.relative_to(PACKAGE.parent).as_posix()


def _machine(stage: Stage, fingerprint: Mapping[str, str]) -> dict[str, str] | None:
    if not stage.on_machine:
        return None
    return {fact: value for fact, value in fingerprint.items() if fact != "ncu" or stage.uses_ncu}


def _digest_files(files: Iterable[Path]) -> str:
    lines = [f"{_relative(file)} {sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _digest_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write_if_changed(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")  # one run at a time writes stamps, see nsa.machine.locks
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_bytes() == text.encode():
            return
        temporary.write_text(text)
        temporary.replace(path)
    except OSError as error:
        raise RecordError(
            f"{path}: cannot be written ({error.strerror}); expected a writable folder with space left"
        ) from error
