"""What each stage executes, reads and runs on: from this its stamp is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, JsonValue

from nsa import backends
from nsa.backends import BackendSpec
from nsa.config import BUILD, Config
from nsa.layout import ACCEPTED
from nsa.records.files import sha256
from nsa.records.words import BASELINE

REPORT = "report"
REPLICATION = frozenset({"seeds", "iters", "processes", "timeout_s"})  # of check and roofline: how often, not what
TUNED = ("groups", "heads_per_group", "head_dim", "value_dim", "sel_block", "sel_count")  # what a kernel sees
Settings = dict[str, JsonValue]


@dataclass(frozen=True)
class Stage:
    """What one stage executes and reads.

    Attributes:
        starts: the modules where its import closure starts; of a package, every module.
        settings: the configuration that it reads, and nothing else.
        backends: those that it loads by name: all of their modules and files count.
        data: packages whose other files (templates, tables) it reads.
        on_machine: whether another machine gives another result.
        uses: the programs and packages whose versions are part of that machine, beside what every such stage uses.
    """

    name: str
    starts: tuple[str, ...]
    settings: Settings
    backends: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    on_machine: bool = True
    uses: tuple[str, ...] = ()


def stages(config: Config, accepted: Path = ACCEPTED) -> Iterator[Stage]:
    """Every stage that a rule runs; S is a wildcard of decode and no setting, so that a new context runs alone.

    Args:
        accepted: the folder of accepted runs, which the report compares with; it need not exist.
    """
    yield Stage("environment", ("nsa.machine.environment",), {})
    for name in backends.names():
        spec = backends.spec(name)
        if spec.stage is not None:
            yield _artifact(config, spec, spec.stage)
        yield from _measured(config, spec)
    yield _roofline(config)
    yield _roofline_report(config)
    yield _paper_table(config)
    yield _core_curve_report(config)
    collect: Settings = {"confidence": config.gates.confidence, "contexts": list(config.contexts)}
    yield Stage("collect", ("nsa.report.analysis.summary",), collect, on_machine=False)
    yield _report(config, accepted)


def artifact(backend: str) -> str:
    """The name of a backend's own stage."""
    return f"artifact-{backend}"


def effective_flags(config: Config) -> dict[str, bool]:
    """The flags that make another run of the same config.yaml; asking for what is a candidate anyway makes none."""
    specs = [backends.spec(name) for name in config.backends]
    affecting = {flag.variable for spec in specs for flag in spec.flags if flag.affects}
    listed = (config.baseline, *config.candidates)
    asking = {flag.variable for spec in specs if spec.name not in listed for flag in spec.flags if flag.requests}
    on = {variable for variable in affecting | asking if config.flags.on(variable)}
    return {variable: value for variable, value in config.flags.values.items() if variable in on | {BUILD}}


def _artifact(config: Config, spec: BackendSpec, own: backends.Stage) -> Stage:
    """What a backend makes for itself before anything is measured."""
    offered: dict[str, Callable[[], JsonValue]] = {
        "build": lambda: config.build_mode,
        "sizes": lambda: _sizes(config),
        "device": lambda: config.device,
        "flags": lambda: _flags(config, spec),
    }
    settings: Settings = {key: offered[key]() for key in own.reads}
    entry = own.entry.partition(":")[0].rpartition(".")[0]  # its package: what is called by name lies beside it
    uses = (*spec.uses, *own.uses)
    starts = ("nsa.bench.artifact", entry)
    return Stage(artifact(spec.name), starts, settings, (spec.name,), on_machine=own.on_machine, uses=uses)


def _measured(config: Config, spec: BackendSpec) -> Iterator[Stage]:
    """The stages that measure one backend: its decode cells, and what looks at its selection kernel."""
    name = spec.name
    common: Settings = {"device": config.device, "flags": _flags(config, spec)}
    decode: Settings = {"decode": _dump(config.decode), **common}
    yield Stage(
        f"decode-{name}", ("nsa.bench.decode",), decode, (name,), uses=tuple(dict.fromkeys((*spec.uses, "triton")))
    )
    if "core" in spec.contracts:
        core: Settings = {"core": _dump(config.core), **common}
        yield Stage(f"core-{name}", ("nsa.bench.core",), core, (name,), uses=spec.uses)
        curve: Settings = {"core": _dump(config.core_curve.cores(config.core)), **common}
        yield Stage(f"core_curve-{name}", ("nsa.bench.core_curve", "nsa.bench.core"), curve, (name,), uses=spec.uses)
    if "selection" not in spec.contracts:
        return
    check: Settings = {"check": _dump(config.check), **common}
    both = tuple(dict.fromkeys((name, BASELINE)))  # every candidate competes with packed SDPA
    yield Stage(f"check-{name}", ("nsa.bench.check",), check, both, uses=_uses(both))
    dram: Settings = {"check": _dump(config.check, REPLICATION), "ncu": config.dram.ncu, **common}
    yield Stage(f"dram-{name}", ("nsa.bench.dram",), dram, (name,), uses=(*spec.uses, "ncu"))


def _roofline(config: Config) -> Stage:
    """All backends in one run; packed SDPA is what they are compared with."""
    raced = tuple(dict.fromkeys((BASELINE, *config.selecting)))
    flags = {key: value for name in raced for key, value in _flags(config, backends.spec(name)).items()}
    settings: Settings = {
        "roofline": _dump(config.roofline, {"targets"}),
        "backends": list(raced),
        "device": config.device,
        "flags": flags,
    }
    return Stage("roofline", ("nsa.bench.roofline",), settings, raced, uses=_uses(raced))


def _roofline_report(config: Config) -> Stage:
    gates = config.gates
    settings: Settings = {
        "targets": {name: _dump(target) for name, target in config.roofline.targets.items()},
        "correct": {"mae": gates.accept.mae, "error_ratio": gates.accept.error_ratio},
        "confidence": gates.confidence,
    }
    tables = ("nsa.report.analysis.public_kernels",)
    return Stage("roofline-report", ("nsa.report.page.roofline",), settings, data=tables, on_machine=False)


def _paper_table(config: Config) -> Stage:
    gates = config.gates
    settings: Settings = {
        "core": _dump(config.core),
        "error_ratio": gates.core.error_ratio,
        "confidence": gates.confidence,
    }
    return Stage("paper-table", ("nsa.report.page.paper_table",), settings, on_machine=False)


def _core_curve_report(config: Config) -> Stage:
    gates = config.gates
    settings: Settings = {
        "core": _dump(config.core_curve.cores(config.core)),
        "targets": {name: [_dump(one) for one in some] for name, some in config.core_curve.targets.items()},
        "error_ratio": gates.core.error_ratio,
        "confidence": gates.confidence,
    }
    return Stage("core_curve-report", ("nsa.report.page.core_curve",), settings, on_machine=False)


def _report(config: Config, accepted: Path) -> Stage:
    settings: Settings = {
        "baseline": config.baseline,
        "backends": list(config.backends),
        "target_contexts": list(config.targets),
        "check": _dump(config.check),
        "gates": _dump(config.gates),
        "config": config.document(),  # the report shows it
        "flags": {**effective_flags(config)},
        "accepted": {path.name: sha256(path) for path in sorted(accepted.glob("*.parquet"))},
    }
    templates = ("nsa.report.page.templates", "nsa.report.page.html")
    return Stage(REPORT, ("nsa.report.page.render",), settings, data=templates, on_machine=False)


def _sizes(config: Config) -> Settings:
    """Every size that is measured, however often each is."""
    model = config.decode.model
    step: Settings = {name: getattr(model, name) for name in TUNED}
    step |= {"rows": config.decode.batch * model.groups, "dtype": _dump(config.decode.dtype)}
    return {
        "step": step,
        "check": _dump(config.check, REPLICATION),
        "roofline": _dump(config.roofline, REPLICATION | {"targets"}),
    }


def _flags(config: Config, spec: BackendSpec) -> Settings:
    return {flag.variable: config.flags.on(flag.variable) for flag in spec.flags if flag.affects}


def _uses(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(use for name in names for use in backends.spec(name).uses))


def _dump(section: BaseModel, without: Iterable[str] = ()) -> Settings:
    dumped: Settings = section.model_dump(mode="json", exclude=set(without))
    return dumped
