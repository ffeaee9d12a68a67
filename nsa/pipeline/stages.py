"""What each stage executes, reads and runs on: from this its stamp is made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsa.config import BACKENDS, Config

ACCEPTED = Path("accepted")  # in the folder that Snakemake runs in, the repository's root
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


def stages(config: Config, accepted: Path = ACCEPTED) -> Iterator[Stage]:
    """Every stage that a rule runs; S is a wildcard of decode and no setting, so that a new context runs alone.

    Args:
        accepted: the folder of accepted runs, which the report compares with; it need not exist.
    """
    yield Stage("environment", "nsa.machine.environment", (), (), {}, True)
    build = {"cuda": config.build_cuda}
    yield Stage("build", "nsa.kernels.cuda.build", (), ("nsa.kernels.cuda",), build, True)
    yield _tuning(config)
    for backend in BACKENDS:
        flags = {name: getattr(config.flags, name) for name in FLAGS_READ.get(backend, ())}
        own = f"nsa.kernels.{backend}"
        decode = {"decode": config.raw["decode"], "device": config.device, "flags": flags}
        yield Stage(f"decode-{backend}", "nsa.bench.decode.stage", (own,), (own,), decode, True)
        rivals = (own, "nsa.kernels.sdpa")  # every candidate competes with packed SDPA
        check = {"check": config.raw["check"], "device": config.device, "flags": flags}
        yield Stage(f"check-{backend}", "nsa.bench.check.stage", rivals, rivals, check, True)
        dram = {"check": _sizes(config.raw["check"]), "device": config.device, "flags": flags, "ncu": config.dram_ncu}
        profiled = (own, "nsa.bench.dram.target")  # ncu starts the target
        yield Stage(f"dram-{backend}", "nsa.bench.dram.stage", profiled, (own,), dram, True, uses_ncu=True)
    collect = {"confidence": config.gates.confidence, "contexts": list(config.contexts)}
    yield Stage("collect", "nsa.report.analysis.summary", (), (), collect, False)
    report = {
        "baseline": config.baseline,
        "backends": list(config.backends),
        "target_contexts": list(config.target_contexts),
        "check": config.raw["check"],
        "gates": config.raw["gates"],
        "config": config.raw,  # the report shows it
        "accepted": {path.name: sha256(path) for path in sorted(accepted.glob("*.parquet"))},
    }
    yield Stage("report", "nsa.report.page.render", (), ("nsa.report.page.templates",), report, False)
    raced = tuple(dict.fromkeys(("sdpa", *config.backends)))  # in one run; packed SDPA is what they are compared with
    kernels = tuple(f"nsa.kernels.{backend}" for backend in raced)
    flags = {name: getattr(config.flags, name) for backend in raced for name in FLAGS_READ.get(backend, ())}
    measured = {key: value for key, value in config.raw["roofline"].items() if key != "targets"}
    roofline = {"roofline": measured, "backends": list(raced), "device": config.device, "flags": flags}
    yield Stage("roofline", "nsa.bench.roofline.stage", kernels, kernels, roofline, True)
    table = {
        "targets": config.raw["roofline"]["targets"],
        "correct": {key: config.gates.accept[key] for key in ("mae", "error_ratio")},
        "confidence": config.gates.confidence,
    }
    yield Stage(
        "roofline-report", "nsa.report.page.roofline", (), ("nsa.report.analysis.public_kernels",), table, False
    )


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
    return Stage("tune", "nsa.bench.tune.stage", (), (), settings, True)


def _sizes(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if key not in (*REPLICATION, "targets")}


def sha256(file: Path) -> str:
    """The digest of a file's bytes."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
