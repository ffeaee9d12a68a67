"""The run that is there: its configuration, whatever config.yaml says by now, and what is gone of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa.config import Config
from nsa.errors import RecordError
from nsa.layout import Layout
from nsa.pipeline import finished, stamps
from nsa.pipeline.stages import effective_flags
from nsa.records import files

MACHINE = {"gpus": "none"}
ROOT = Path(stamps.__file__).parents[2]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "results")


def report(layout: Layout, config: Config) -> None:
    """What is left of a run of this configuration, as far as anybody here looks."""
    layout.root.mkdir(exist_ok=True)
    for path in (layout.report, layout.html, layout.run_file, layout.csv, layout.checks, layout.environment):
        path.touch()
    gate = {"schema_version": 2, "config": config.document(), "flags": effective_flags(config)}
    layout.gate.write_text(json.dumps(gate))
    for backend in config.backends:
        records = [layout.check(backend), layout.dram(backend), *(layout.cell(backend, S) for S in config.contexts)]
        for path in [*records, layout.artifact("build/cuda.json")]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


def test_a_run_is_of_the_configuration_that_its_report_says(layout: Layout, raw: dict[str, Any]) -> None:
    """Neither a later dry run with other settings nor an edited config.yaml changes what the run was."""
    config = Config.parse({**raw, "contexts": [128], "candidates": []}, {"NSA_FA2_FORCE": "1"})
    report(layout, config)
    stamps.write(Config.parse(raw, {}), MACHINE, layout)  # as `snakemake -n --config` does
    assert finished.configuration(layout, ROOT / "config.yaml", {}) == config


def test_without_a_report_its_stamp_says_it_and_without_both_config_yaml(layout: Layout, raw: dict[str, Any]) -> None:
    """A run that has not come to its report yet is of the settings that it was started with."""
    assert finished.configuration(layout, ROOT / "config.yaml", {}) == Config.parse(raw, {})
    config = Config.parse({**raw, "contexts": [256]}, {"NSA_SEL_CUDA_BUILD": "0"})
    stamps.write(config, MACHINE, layout)
    assert finished.configuration(layout, ROOT / "config.yaml", {}) == config


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not JSON"),
        ('{"schema_version": 1}', "schema version 1, expected 2 (see CHANGELOG.md)"),
        ('{"schema_version": 2}', "does not say which configuration it is of"),
        ('{"schema_version": 2, "config": {"contexts": [1]}, "flags": {}}', "lacks the key"),
    ],
)
def test_a_gate_that_does_not_say_it_is_one_clear_line(content: str, said: str, layout: Layout) -> None:
    """Its name, what is wrong with it, and what to do; no other configuration takes its place."""
    layout.root.mkdir()
    layout.gate.write_text(content)
    with pytest.raises(RecordError) as caught:
        finished.configuration(layout, ROOT / "config.yaml", {})
    line = str(caught.value)
    assert line.startswith(str(layout.gate)) and said in line and "; " in line and "\n" not in line


def gone(layout: Layout, config: Config) -> tuple[tuple[str, ...], bytes]:
    """What a parse of the Snakefile notes as gone, and the report's stamp then."""
    stamps.write(config, MACHINE, layout)
    stamp = stamps.read(layout.stamp("report"))
    assert stamp.gone is not None
    return stamp.gone.files, layout.stamp("report").read_bytes()


@pytest.mark.parametrize("name", ["gate.json", "decode.csv", "environment.json", "decode/cuda/S256.parquet"])
def test_what_is_gone_changes_the_reports_stamp_each_time(name: str, layout: Layout, raw: dict[str, Any]) -> None:
    """The report runs again whenever something of it is gone, also when the same is deleted twice; else it does not."""
    config = Config.parse({**raw, "candidates": ["cuda"]}, {})
    report(layout, config)
    whole = gone(layout, config)
    assert whole == gone(layout, config) and whole[0] == ()
    kept, path = (layout.root / name).read_bytes(), layout.root / name
    path.unlink()
    first, second = gone(layout, config), gone(layout, config)
    assert first[0] == second[0] == (str(path),)
    path.write_bytes(kept)
    assert second == gone(layout, config)  # as it was noted: nothing is gone now
    path.unlink()
    assert len({whole[1], first[1], second[1], gone(layout, config)[1]}) == 4


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema_version": 1}', '{"schema_version": 2}'])
def test_a_gate_that_does_not_say_its_run_is_made_again(content: str, layout: Layout, raw: dict[str, Any]) -> None:
    """A run that has nothing else to do would end with the fault, and an exit status of 0."""
    config = Config.parse({**raw, "candidates": []}, {})
    report(layout, config)
    assert gone(layout, config)[0] == ()
    layout.gate.write_text(content)
    assert gone(layout, config)[0] == (str(layout.gate),)


@pytest.mark.parametrize("name", ["gate_report.md", "figures/decode_breakdown.png"])
def test_what_is_not_as_the_report_wrote_it_is_made_again(name: str, layout: Layout, raw: dict[str, Any]) -> None:
    """A report that was overwritten, and a figure that was deleted, are known by their digests."""
    config = Config.parse({**raw, "candidates": []}, {})
    report(layout, config)
    path = layout.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("as it was")
    gate = json.loads(layout.gate.read_text())
    layout.gate.write_text(json.dumps({**gate, "files": {name: files.sha256(path)}}))
    assert finished.changed(layout) == {} and gone(layout, config)[0] == ()
    path.write_text("overwritten")
    assert finished.changed(layout) == {path: "not as the report wrote it"} and gone(layout, config)[0] == (str(path),)
    if path != layout.report:
        path.unlink()
        assert finished.changed(layout) == {path: "missing"} and gone(layout, config)[0] == (str(path),)


def test_what_is_gone_makes_no_record_stale(layout: Layout, raw: dict[str, Any]) -> None:
    """It is in the report's stamp, but in no digest that a record carries."""
    config = Config.parse({**raw, "candidates": []}, {})
    report(layout, config)
    layout.csv.unlink()
    stamps.write(config, MACHINE, layout)
    assert stamps.digests(layout.stamps) == stamps.today(config, MACHINE)


def test_before_the_first_report_nothing_is_gone(layout: Layout, raw: dict[str, Any]) -> None:
    """Stamps of a fresh clone are the same on every machine alike, and a cache can be found by them."""
    config = Config.parse(raw, {})
    assert gone(layout, config)[0] == ()
    assert gone(layout, config) == gone(Layout(layout.root.with_name("other")), config)


def test_a_summary_is_no_part_of_a_report(layout: Layout, raw: dict[str, Any]) -> None:
    """decode_{backend}.parquet is for who asks for it: without it the report is whole."""
    config = Config.parse({**raw, "candidates": []}, {})
    report(layout, config)
    assert not layout.summary("sdpa").exists()
    assert gone(layout, config)[0] == ()
