"""Stamps: every source belongs to a stage, and a change reaches the stages that it affects and no other."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import grimp
import pytest
import yaml

from nsa.config import BACKENDS, Config, Flags
from nsa.errors import BackendUnavailable, RecordError
from nsa.kernels import registry
from nsa.kernels.guards import ADA
from nsa.machine.host import Machine
from nsa.pipeline import stages, stamps

ROOT = Path(stamps.__file__).parents[2]
MACHINE = {"gpus": "none", "torch": "2.13.0"}
KINDS = ("decode", "check", "dram")  # a stage for each backend
UNCLAIMED = {
    "nsa/pipeline/__init__.py": "as stamps.py",
    "nsa/pipeline/stages.py": "as stamps.py",
    "nsa/backends.py": "not used yet",
    "nsa/layout.py": "not used yet",
    "nsa/records/facts.py": "not used yet",
    "nsa/records/merge.py": "not used yet",
    "nsa/records/outcome.py": "not used yet",
    "nsa/pipeline/stamps.py": "makes the stamps; what it changes is their content",
    "nsa/pipeline/deleted.py": "tells the report rule of deleted records; what it says is an input of that rule",
    "nsa/pipeline/doctor.py": "examines a results folder; no rule runs it",
    "nsa/cli/guide.py": "the guide's commands; no rule runs them",
    "nsa/cli/verdict.py": "reads what the report left; no rule runs it",
    "nsa/cli/console.py": "the guide's benchmark on the console; no rule runs it",
    "nsa/report/page/guide.py": "the guide's summary on the console; no rule runs it",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("nsa", exclude_type_checking_imports=True, cache_dir=None)


@pytest.fixture
def raw() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    return content


def claimed(stage: str, graph: grimp.ImportGraph, raw: dict[str, Any]) -> set[str]:
    found = {each.name: each for each in stamps.stages(Config.from_dict(raw, {}))}[stage]
    return {file.relative_to(ROOT).as_posix() for file in stamps.sources(found, graph)}


def test_every_source_belongs_to_a_stage(graph: grimp.ImportGraph, raw: dict[str, Any]) -> None:
    """Without it, a new module that no stamp covers could change and its old results would stay."""
    known = set().union(*(claimed(stage.name, graph, raw) for stage in stamps.stages(Config.from_dict(raw, {}))))
    package = (file for file in (ROOT / "nsa").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    unclaimed = {file.relative_to(ROOT).as_posix() for file in package} - known
    assert unclaimed == set(UNCLAIMED)


def test_a_stage_claims_what_it_loads_by_name(graph: grimp.ImportGraph, raw: dict[str, Any]) -> None:
    """Without it, the registry's imports by string would be missed: a kernel changes, its timings stay."""
    for backend in BACKENDS:
        assert f"nsa/kernels/{backend}/__init__.py" in claimed(f"decode-{backend}", graph, raw)
        assert "nsa/kernels/sdpa/packed.py" in claimed(f"check-{backend}", graph, raw)
        assert "nsa/bench/dram/target.py" in claimed(f"dram-{backend}", graph, raw)  # a program of its own
    assert "nsa/kernels/triton/kernel.py" in claimed("tune", graph, raw)
    assert "nsa/bench/decode/replicate.py" in claimed("decode-cuda", graph, raw)  # imported inside a function
    assert "nsa/report/page/templates/gate_report.md.j2" in claimed("report", graph, raw)
    roofline = claimed("roofline", graph, raw)
    assert {
        "nsa/bench/roofline/replicate.py",
        *(f"nsa/kernels/{backend}/__init__.py" for backend in BACKENDS),
    } <= roofline
    assert "nsa/report/analysis/public_kernels/h200.csv" in claimed("roofline-report", graph, raw)


def test_a_backend_does_not_claim_another(graph: grimp.ImportGraph, raw: dict[str, Any]) -> None:
    """Without it, editing one backend would measure every other again."""
    for one, other in itertools.permutations(BACKENDS, 2):
        files = claimed(f"decode-{one}", graph, raw) | claimed(f"dram-{one}", graph, raw)
        assert not any(file.startswith(f"nsa/kernels/{other}/") for file in files), (one, other)


def test_measuring_does_not_claim_the_report(graph: grimp.ImportGraph, raw: dict[str, Any]) -> None:
    """Without it, a new column in the report would measure everything again."""
    stages = [f"{stage}-{backend}" for stage in KINDS for backend in BACKENDS]
    for stage in (*stages, "environment", "build", "roofline"):
        assert not any(file.startswith("nsa/report/") for file in claimed(stage, graph, raw)), stage


def of(*kinds: str) -> set[str]:
    """The stages of these names; decode, check and dram stand for those of every backend."""
    each = {f"{kind}-{backend}" for kind in KINDS if kind in kinds for backend in BACKENDS}
    return each | (set(kinds) - set(KINDS))


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], set[str]]] = {
    "another context": (lambda raw: raw["contexts"].append(2048), of("collect", "report")),
    "more iterations": (lambda raw: raw["decode"].update(iters=64), of("decode", "report")),
    "another model": (lambda raw: raw["decode"]["model"].update(window=256), of("decode", "report")),
    "more check seeds": (lambda raw: raw["check"].update(seeds=9), of("check", "report")),
    "another check context": (lambda raw: raw["check"].update(context=8192), of("tune", "check", "dram", "report")),
    "another width": (lambda raw: raw["decode"]["model"].update(head_dim=64), of("tune", "decode", "report")),
    "no counters": (lambda raw: raw["dram"].update(ncu="skip"), of("dram", "report")),
    "another device": (
        lambda raw: raw.update(device="cpu"),
        of("tune", "decode", "check", "dram", "roofline", "report"),
    ),
    "no build": (lambda raw: raw["build"].update(cuda="skip"), of("build", "report")),
    "a higher confidence": (
        lambda raw: raw["gates"].update(confidence=0.99),
        of("collect", "roofline-report", "report"),
    ),
    "another threshold": (lambda raw: raw["gates"]["accept"].update(speedup=1.5), of("report")),
    "fewer candidates": (lambda raw: raw.update(candidates=["cuda"]), of("roofline", "report")),
    "more rounds of the roofline": (lambda raw: raw["roofline"].update(iters=50), of("roofline", "report")),
    "another target of the roofline": (
        lambda raw: raw["roofline"]["targets"]["cuda"].update(plus_us=6.0),
        of("roofline-report", "report"),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_setting_reaches_only_its_stages(change: str, raw: dict[str, Any], tmp_path: Path) -> None:
    """Without it, a changed setting would leave old results standing, or measure what it does not touch."""
    apply, expected = CHANGES[change]
    changed = copy.deepcopy(raw)
    apply(changed)
    assert rewritten(tmp_path, Config.from_dict(raw, {}), Config.from_dict(changed, {})) == expected


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("NSA_SEL_CUDA_BUILD", of("build")),
        ("NSA_SEL_CUDA", set()),  # already a candidate
        ("NSA_USE_TRITON_SEL", set()),
        ("NSA_TRITON_SEL_FORCE", {"tune", "decode-triton", "check-triton", "dram-triton", "roofline"}),
        ("NSA_FA2_FORCE", {"decode-fa2", "check-fa2", "dram-fa2", "roofline"}),
    ],
)
def test_a_flag_reaches_only_its_stages(flag: str, expected: set[str], raw: dict[str, Any], tmp_path: Path) -> None:
    """Without it, forcing a guarded backend would show the refusal that was recorded before."""
    assert rewritten(tmp_path, Config.from_dict(raw, {}), Config.from_dict(raw, {flag: "1"})) == expected


def test_another_machine_reaches_every_measurement(raw: dict[str, Any], tmp_path: Path) -> None:
    """Without it, a new driver or GPU would be credited with the old one's times."""
    config = Config.from_dict(raw, {})
    expected = of("environment", "build", "tune", "decode", "check", "dram", "roofline")
    assert rewritten(tmp_path, config, config, {**MACHINE, "gpus": "another"}) == expected


def test_another_profiler_reaches_only_what_it_counts(raw: dict[str, Any], tmp_path: Path) -> None:
    """Without it, a count skipped for want of ncu would stay skipped, or installing ncu would time all again."""
    config = Config.from_dict(raw, {})
    assert rewritten(tmp_path, config, config, {**MACHINE, "ncu": "bin/ncu"}) == of("dram")


def rewritten(folder: Path, before: Config, after: Config, machine: dict[str, str] = MACHINE) -> set[str]:
    """The stages whose stamp is written again when the configuration or the machine changes."""
    stamps.write(before, MACHINE, folder)
    contents = {file.stem: file.read_text() for file in folder.iterdir()}
    stamps.write(after, machine, folder)
    return {file.stem for file in folder.iterdir() if file.read_text() != contents[file.stem]}


def test_an_unchanged_stamp_is_left_alone(raw: dict[str, Any], tmp_path: Path) -> None:
    """Without it, every parse of the Snakefile would make each stamp newer than its results."""
    config = Config.from_dict(raw, {})
    stamps.write(config, MACHINE, tmp_path)
    before = {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    stamps.write(config, MACHINE, tmp_path)
    assert {file.name: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


def test_every_flag_that_a_backend_obeys_is_in_its_stamp() -> None:
    """Without it, a flag that lifts a guard could be flipped and the recorded refusal would stay."""
    machines = [Machine(None), Machine(ADA), Machine((9, 0))]

    def outcome(backend: str, machine: Machine, flags: Flags) -> str:
        try:
            registry.require(backend, machine, flags)
        except BackendUnavailable as error:
            return str(error)
        return "available"

    for backend, machine, flag in itertools.product(BACKENDS, machines, fields(Flags)):
        if flag.name not in stages.FLAGS_READ.get(backend, ()):
            flipped = Flags(**{flag.name: True})
            assert outcome(backend, machine, flipped) == outcome(backend, machine, Flags()), (backend, flag.name)


def test_a_stamp_reads_back(raw: dict[str, Any], tmp_path: Path) -> None:
    """Without it, a command could run with other settings than those that were stamped."""
    stamps.write(Config.from_dict(raw, {"NSA_FA2_FORCE": "1"}), MACHINE, tmp_path)
    stamp = stamps.read(tmp_path / "decode-fa2.json")
    assert stamp["settings"] == {"decode": raw["decode"], "device": "auto", "flags": {"fa2_force": True}}
    assert stamp["machine"] == MACHINE
    today = stamps.digests(tmp_path)
    assert today["decode-fa2"]["sources"] == stamp["sources"]["digest"]
    assert today["report"]["machine"] is None


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_a_broken_stamp_is_one_clear_line(content: str | None, tmp_path: Path) -> None:
    """Without it, a command started by hand with a wrong stamp would end in a traceback."""
    path = tmp_path / "decode-cuda.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecordError, match=r"decode-cuda\.json.*snakemake") as caught:
        stamps.read(path)
    assert "\n" not in str(caught.value)


def test_stamps_need_nothing_heavy(tmp_path: Path) -> None:
    """Without it, an import of torch or pandas would make every `snakemake -n` take seconds."""
    program = (
        "import json, os, sys; from pathlib import Path; import yaml;"
        "from nsa.pipeline import stamps; from nsa.config import Config; from nsa.machine.fingerprint import fingerprint;"
        "config = Config.from_dict(yaml.safe_load(Path('config.yaml').read_text()), {});"
        f"stamps.write(config, fingerprint(), Path({str(tmp_path)!r}));"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", program], text=True, cwd=ROOT))
    assert not {"torch", "triton", "numpy", "pandas", "pyarrow", "scipy", "matplotlib"} & set(loaded)
