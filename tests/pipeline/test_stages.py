"""What reaches a stage: a change of a setting, a flag or the machine reaches those that it affects and no other."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsa import backends
from nsa.config import BUILD, Config, Flags, variables
from nsa.errors import BackendUnavailable
from nsa.kernels import registry
from nsa.layout import Layout
from nsa.machine.host import Machine
from nsa.pipeline import stages, stamps

MACHINE = {"gpus": "none", "torch": "2.13.0", "nvcc": "13.0", "ncu": "none", "triton": "3.6"}
ADA = (8, 9)
BACKENDS = tuple(backends.BUILT_IN)
NEEDS = {
    "decode": None,
    "check": "selection",
    "dram": "selection",
    "core": "core",
    "core_curve": "core",
}  # a stage's contract, if any
BUILDS = {"artifact-cuda", "artifact-fused"}
ARTIFACTS = BUILDS | {"artifact-triton"}


def of(*kinds: str) -> set[str]:
    """The stages of these names; those in NEEDS stand for those of every backend that has one."""
    each = {stage for backend in BACKENDS for stage in measured(backend) if stage.partition("-")[0] in kinds}
    return each | (set(kinds) - set(NEEDS))


def measured(backend: str) -> set[str]:
    """The stages that measure a backend: its decode cells, and what looks at the contracts that it offers."""
    offered = backends.spec(backend).contracts
    return {f"{kind}-{backend}" for kind, needed in NEEDS.items() if needed is None or needed in offered}


TUNE = "artifact-triton"
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], set[str]]] = {
    "another context": (lambda raw: raw.update(contexts=[128, 2048]), of("collect", "report")),
    "more iterations": (lambda raw: raw["decode"].update(iters=64), of("decode", "report")),
    "another model": (lambda raw: raw["decode"]["model"].update(window=256), of("decode", "report")),
    "more check seeds": (lambda raw: raw["check"].update(seeds=9), of("check", "report")),
    "another check context": (lambda raw: raw["check"].update(context=8192), of(TUNE, "check", "dram", "report")),
    "another width": (lambda raw: raw["decode"]["model"].update(head_dim=64), of(TUNE, "decode", "report")),
    "no counters": (lambda raw: raw["dram"].update(ncu="skip"), of("dram", "report")),
    "no build": (lambda raw: raw["build"].update(cuda="skip"), BUILDS | of("report")),
    "a higher confidence": (
        lambda raw: raw["gates"].update(confidence=0.99),
        of("collect", "roofline-report", "paper-table", "core_curve-report", "report"),
    ),
    "another threshold": (lambda raw: raw["gates"]["accept"].update(speedup=1.5), of("report")),
    "more rounds of the core check": (
        lambda raw: raw["core"].update(iters=50),
        of("core", "paper-table", "report"),
    ),
    "another threshold of cores": (lambda raw: raw["gates"]["core"].update(speedup=1.5), of("report")),
    "another tolerance of cores": (
        lambda raw: raw["gates"]["core"].update(error_ratio=3.0),
        of("paper-table", "core_curve-report", "report"),
    ),
    "another window of cores": (
        lambda raw: raw["core"].update(window=256),
        of("core", "core_curve", "paper-table", "core_curve-report", "report"),
    ),
    "a longer curve of cores": (
        lambda raw: raw["core_curve"].update(max_tokens=2**24),
        of("core_curve", "core_curve-report", "report"),
    ),
    "another target of the curve": (
        lambda raw: raw["core_curve"]["targets"].pop("fused"),
        of("core_curve-report", "report"),
    ),
    "fewer candidates": (lambda raw: raw.update(candidates=["cuda"]), of("roofline", "report")),
    "more rounds of the roofline": (lambda raw: raw["roofline"].update(iters=50), of("roofline", "report")),
    "another target of the roofline": (
        lambda raw: raw["roofline"]["targets"]["cuda"].update(plus_us=6.0),
        of("roofline-report", "report"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_reaches_only_its_stages(change: str, raw: dict[str, Any], tmp_path: Path) -> None:
    """A changed setting leaves no old result standing, and measures nothing that it does not touch."""
    apply, expected = CHANGES[change]
    changed = copy.deepcopy(raw)
    apply(changed)
    assert rewritten(tmp_path, Config.parse(raw, {}), Config.parse(changed, {})) == expected


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        (BUILD, BUILDS | of("report")),
        ("NSA_SEL_CUDA", set()),  # already a candidate
        ("NSA_USE_TRITON_SEL", set()),
        ("NSA_TRITON_SEL_FORCE", measured("triton") | of(TUNE, "roofline", "report")),
        ("NSA_FA2_FORCE", measured("fa2") | of("roofline", "report")),
    ],
)
def test_a_flag_reaches_only_its_stages(flag: str, expected: set[str], raw: dict[str, Any], tmp_path: Path) -> None:
    """A flag reaches what it changes, and the report, which says of which flags it is."""
    assert rewritten(tmp_path, Config.parse(raw, {}), Config.parse(raw, {flag: "1"})) == expected


@pytest.mark.parametrize("fact", ["gpus", "torch"])
def test_another_machine_reaches_every_measurement(fact: str, raw: dict[str, Any], tmp_path: Path) -> None:
    """A new GPU or torch is not credited with the old one's times."""
    config = Config.parse(raw, {})
    expected = of("environment", *NEEDS, "roofline") | ARTIFACTS
    assert rewritten(tmp_path, config, config, {**MACHINE, fact: "another"}) == expected


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("nvcc", BUILDS),  # reaches what is measured of cuda and fused through their artifacts
        ("ncu", of("dram")),
        (
            "triton",
            measured("triton") | of(TUNE, "roofline", "decode", "core-triton_core", "core_curve-triton_core"),
        ),  # parts of every step
        ("snakemake", set()),
    ],
)
def test_another_tool_reaches_only_who_uses_it(
    tool: str, expected: set[str], raw: dict[str, Any], tmp_path: Path
) -> None:
    """A PATH without nvcc does not measure packed SDPA again."""
    config = Config.parse(raw, {})
    there = {**MACHINE, tool: "another"} if tool in MACHINE else MACHINE
    assert rewritten(tmp_path, config, config, there) == expected


def test_a_package_that_a_backend_uses_is_in_its_stamp(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fa2 runs another kernel once flash_attn is installed, and is measured again."""
    config, layout = Config.parse(raw, {}), Layout(tmp_path)
    stamps.write(config, MACHINE, layout)
    assert stamps.read(layout.stamp("decode-fa2")).machine == {
        **common(),
        "flash_attn": "none",
        "triton": MACHINE["triton"],
    }
    monkeypatch.setattr(stamps, "package_version", lambda name: "2.8")
    assert rewritten_in(layout, config, MACHINE) == measured("fa2") | of("roofline")


def common() -> dict[str, str]:
    """The facts of MACHINE that every measured stage has."""
    return {fact: value for fact, value in MACHINE.items() if fact not in ("nvcc", "ncu", "triton")}


def rewritten(folder: Path, before: Config, after: Config, machine: dict[str, str] = MACHINE) -> set[str]:
    """The stages whose stamp is written again when the configuration or the machine changes."""
    layout = Layout(folder)
    stamps.write(before, MACHINE, layout)
    return rewritten_in(layout, after, machine)


def rewritten_in(layout: Layout, config: Config, machine: dict[str, str]) -> set[str]:
    """The stages whose stamp in a folder is not what would be written now."""
    contents = {file.stem: file.read_text() for file in layout.stamps.iterdir()}
    stamps.write(config, machine, layout)
    return {file.stem for file in layout.stamps.iterdir() if file.read_text() != contents[file.stem]}


def test_every_flag_that_a_backend_obeys_is_in_its_stamp() -> None:
    """A flag that lifts a guard cannot be flipped while the recorded refusal stays."""
    machines = [Machine(None, {}), Machine(ADA, {}), Machine((9, 0), {})]

    def outcome(backend: str, machine: Machine, flags: Flags) -> str:
        try:
            registry.require(backend, machine, flags)
        except BackendUnavailable as error:
            return str(error)
        return "available"

    for backend, machine, variable in itertools.product(BACKENDS, machines, variables()):
        affecting = {flag.variable for flag in backends.spec(backend).flags if flag.affects}
        if variable not in affecting:
            flipped = Flags({variable: True})
            assert outcome(backend, machine, flipped) == outcome(backend, machine, Flags()), (backend, variable)


@pytest.mark.parametrize(
    ("candidates", "environ", "expected"),
    [
        (["cuda", "triton"], {"NSA_SEL_CUDA": "1", "NSA_TRITON_SEL_FORCE": "0"}, {}),
        (["cuda", "triton"], {"NSA_TRITON_SEL_FORCE": "1"}, {"NSA_TRITON_SEL_FORCE": True}),
        (["cuda"], {"NSA_TRITON_SEL_FORCE": "1"}, {}),  # of nobody who runs
        (["triton"], {"NSA_SEL_CUDA": "1"}, {"NSA_SEL_CUDA": True}),  # without it, cuda would not run
        ([], {BUILD: "0"}, {BUILD: False}),
    ],
)
def test_flags_that_change_nothing_are_no_part_of_a_run(
    candidates: list[str], environ: dict[str, str], expected: dict[str, bool], raw: dict[str, Any]
) -> None:
    """The report says of which flags it is, and is not made again for one that asks for what runs anyway."""
    config = Config.parse({**raw, "candidates": candidates}, environ)
    assert stages.effective_flags(config) == expected
    again = Config.parse(config.document(), {name: str(int(on)) for name, on in expected.items()})
    assert (again.backends, again.build_mode) == (config.backends, config.build_mode)
