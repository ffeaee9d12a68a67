"""One stamp per stage: the sources, the settings and the machine that its results depend on.

Snakemake compares the content of a rule's inputs, but never looks into an imported module, and without its metadata
not at `params` either. So each rule takes its stage's stamp as an input, and its command reads the settings from it:
what was stamped is what runs. A stamp is rewritten only when it changed, so that only the affected stages run again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grimp

from nsa.config import BACKENDS, Config
from nsa.errors import RecordError

PACKAGE = Path(__file__).parent
BASELINES = Path("baselines")  # in the folder that Snakemake runs in, the repository's root
# Every stage starts here; its command imports the stage. What users type (guide, verdict) changes no stage.
COMMAND_LINE = ("__main__.py", "cli/__init__.py", "cli/app.py", "cli/stages.py")
REPLICATION = ("seeds", "iters", "processes", "timeout_s")  # of the check and the roofline: how often, not what
TUNED = ("groups", "heads_per_group", "head_dim", "value_dim", "sel_block", "sel_count")  # what a kernel sees
FLAGS_READ = {"triton": ("triton_force",), "fa2": ("fa2_force",)}  # the flags that change what a backend does


@dataclass(frozen=True)
class Stage:
    """What one stage executes and reads.

    Attributes:
        entry: the module where its import closure starts.
        packages: packages that it loads by name, so that no import shows them; all of their modules count.
        data: packages whose other files (kernels, templates) it reads.
        settings: the configuration that it reads, and nothing else.
        on_machine: whether another machine gives another result.
        uses_ncu: whether the profiler is part of that machine.
    """

    name: str
    entry: str
    packages: tuple[str, ...]
    data: tuple[str, ...]
    settings: Mapping[str, Any]
    on_machine: bool
    uses_ncu: bool = False


def stages(config: Config, baselines: Path = BASELINES) -> Iterator[Stage]:
    """Every stage that a rule runs; S is a wildcard of decode and no setting, so that a new context runs alone.

    Args:
        baselines: the folder of accepted runs, which the report compares with; it need not exist.
    """
    yield Stage("environment", "nsa.bench.environment", (), (), {}, True)
    build = {"cuda": config.build_cuda}
    yield Stage("build", "nsa.kernels.cuda.build", (), ("nsa.kernels.cuda",), build, True)
    yield _tuning(config)
    for backend in BACKENDS:
        flags = {name: getattr(config.flags, name) for name in FLAGS_READ.get(backend, ())}
        own = f"nsa.kernels.{backend}"
        decode = {"decode": config.raw["decode"], "device": config.device, "flags": flags}
        yield Stage(f"decode-{backend}", "nsa.bench.decode", (own,), (own,), decode, True)
        rivals = (own, "nsa.kernels.sdpa")  # every candidate competes with packed SDPA
        check = {"check": config.raw["check"], "device": config.device, "flags": flags}
        yield Stage(f"check-{backend}", "nsa.bench.kernel_check", rivals, rivals, check, True)
        dram = {"check": _sizes(config.raw["check"]), "device": config.device, "flags": flags, "ncu": config.dram_ncu}
        profiled = (own, "nsa.bench.dram_target")  # ncu starts the target
        yield Stage(f"dram-{backend}", "nsa.bench.dram", profiled, (own,), dram, True, uses_ncu=True)
    collect = {"confidence": config.gates.confidence, "contexts": list(config.contexts)}
    yield Stage("collect", "nsa.report.summary", (), (), collect, False)
    report = {
        "baseline": config.baseline,
        "backends": list(config.backends),
        "target_contexts": list(config.target_contexts),
        "check": config.raw["check"],
        "gates": config.raw["gates"],
        "config": config.raw,  # the report shows it
        "accepted": {path.name: _sha256(path) for path in sorted(baselines.glob("*.parquet"))},
    }
    yield Stage("report", "nsa.report.render", (), ("nsa.report.templates",), report, False)
    raced = tuple(dict.fromkeys(("sdpa", *config.backends)))  # in one run; packed SDPA is what they are compared with
    kernels = tuple(f"nsa.kernels.{backend}" for backend in raced)
    flags = {name: getattr(config.flags, name) for backend in raced for name in FLAGS_READ.get(backend, ())}
    measured = {key: value for key, value in config.raw["roofline"].items() if key != "targets"}
    roofline = {"roofline": measured, "backends": list(raced), "device": config.device, "flags": flags}
    yield Stage("roofline", "nsa.bench.roofline", kernels, kernels, roofline, True)
    table = {
        "targets": config.raw["roofline"]["targets"],
        "correct": {key: config.gates.accept[key] for key in ("mae", "error_ratio")},
        "confidence": config.gates.confidence,
    }
    yield Stage("roofline-report", "nsa.report.roofline", (), ("nsa.report.public_kernels",), table, False)


def _tuning(config: Config) -> Stage:
    """The stage that tunes the Triton kernel for every size that is measured, however often each is."""
    model = config.decode.model
    step = {name: getattr(model, name) for name in TUNED}
    settings = {
        "step": {**step, "rows": config.decode.batch * model.groups, "dtype": config.raw["decode"]["dtype"]},
        "check": _sizes(config.raw["check"]),
        "roofline": _sizes(config.raw["roofline"]),
        "device": config.device,
        "flags": {name: getattr(config.flags, name) for name in FLAGS_READ["triton"]},
    }
    return Stage("tune", "nsa.bench.tune", (), (), settings, True)


def _sizes(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in (*REPLICATION, "targets")}


def write(config: Config, fingerprint: Mapping[str, str], folder: Path, baselines: Path = BASELINES) -> None:
    """Write `{folder}/{stage}.json` for every stage whose stamp is new or has changed.

    Args:
        config: the validated configuration, flags included.
        fingerprint: the facts of this machine, see nsa.fingerprint.
        folder: where the stamps lie; made when it is missing.
        baselines: the folder of accepted runs.

    Raises:
        RecordError: the folder cannot be written: read-only, a full disk.
    """
    graph = grimp.build_graph("nsa", exclude_type_checking_imports=True, cache_dir=None)
    for stage in stages(config, baselines):
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
    lines = [f"{_relative(file)} {_sha256(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _write_if_changed(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")  # one run at a time writes stamps, see nsa.locks
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
