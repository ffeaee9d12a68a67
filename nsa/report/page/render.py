"""The gate report: reads every record, decides both gates and writes the report, its figure and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from nsa import backends
from nsa.config import Config
from nsa.errors import RecordError
from nsa.layout import ACCEPTED, HISTORY, Layout
from nsa.machine.process import announce
from nsa.records import files
from nsa.records.facts import Environment
from nsa.records.words import FILES
from nsa.report.accepted import reported
from nsa.report.accepted.compare import compare
from nsa.report.analysis.dram import read_dram
from nsa.report.analysis.read import Stamps
from nsa.report.history import store
from nsa.report.history.series import series
from nsa.report.page import export, tables
from nsa.report.page.content import Build, content
from nsa.report.page.history import Past, no_past, past
from nsa.report.page.html.page import html_text
from nsa.report.page.markdown import markdown_text
from nsa.report.page.plots import decode_breakdown
from nsa.report.page.reproduce import run_file
from nsa.report.verdict import checks as checking
from nsa.report.verdict.run import Run, read_run

NO_BUILD = Build(status="not asked for")


def report(
    environment: Path,
    artifacts: Sequence[Path],
    cells: Sequence[Path],
    checks: Sequence[Path],
    stamps: Stamps,
    config: Config,
    out_dir: Path,
    dram: Sequence[Path] = (),
    accepted: Path = ACCEPTED,
    cores: Sequence[Path] = (),
    history: Path = HISTORY,
) -> None:
    """Write the report as Markdown and HTML, and what is beside it (nsa.layout); keep the last good report.

    Args:
        environment: the JSON record of the probe.
        artifacts: what the backends' own stages made; that of the CUDA build is shown.
        cells, checks: results/decode/*/S*.parquet, results/check_*.parquet.
        stamps: today's digests by stage, "decode-<backend>", "check-<backend>", "dram-<backend>".
        config: what decides, and what the report says that it was made from; see nsa.config.recorded.
        out_dir: where to, results/ in the pipeline.
        dram: results/dram_*.json.
        accepted: the folder of accepted runs; it need not exist.
        cores: results/core/*.parquet.
        history: the folder of histories, to which this run is added.

    Raises:
        RecordError: the environment or the build record cannot be read, or a path names no cell. Any other faulty
            record is INVALID or STALE in the report.
    """
    about = files.read_model(environment, Environment)
    built, manifest = read_build(artifacts)
    layout = Layout(out_dir)
    set_previous_aside(layout)
    run = read_run(about, cells, checks, stamps, config, cores)
    counted = [read_dram(path, stamps) for path in dram]
    change = compare(run, accepted, config)
    before = remember(run, history, accepted, config)

    read = [*run.records.values(), *run.cores.values(), *counted]
    origin = tables.provenance(
        record.provenance for record in read if record.provenance and record.status not in ("stale", "invalid")
    )
    document = export.gate(
        run,
        change,
        config,
        {
            reported.KEY: reported.identities(run),
            "environment": export.as_json(about),
            "build": manifest,
            "artifacts": export.as_json(states(artifacts)),
            "provenance": {key: [*sorted(seen)] for key, seen in origin.items()},
            "stamp": export.as_json(stamps.get("report")),
        },
    )
    shown = content(run, change, before, counted, about, built, origin, config, layout)
    decode_breakdown(run.cells, layout.figures)
    text = markdown_text(shown)
    export.write_csv(layout.csv, run.cells)
    checking.write(layout.checks, run.checks)
    files.write_text(layout.run_file, run_file(config))
    files.write_text(layout.html, html_text(shown))
    files.write_text(layout.kept_report, text)  # see set_previous_aside
    beside = [layout.html, layout.run_file, layout.csv, layout.checks, *sorted(layout.figures.glob("*"))]
    written: dict[str, JsonValue] = {str(path.relative_to(layout.root)): files.sha256(path) for path in beside}
    written[layout.report.name] = files.sha256(layout.kept_report)
    export.write_gate(layout.gate, {**document, FILES: written})  # by which one that is not as it was is known
    files.write_text(layout.report, text)


def remember(run: Run, history: Path, accepted: Path, config: Config) -> Past:
    """Add the run to the history, and say what the pages show of it; one that takes no run keeps no report from being.

    Its fault is said at the console, too: until it is mended, no run is added.
    """
    try:
        found = store.add(history, run, accepted, config)
    except RecordError as error:
        announce(f"history: {error}")
        return no_past(str(error))
    return no_past(None) if found is None else past(series(found[1]), found[0])


def read_build(artifacts: Sequence[Path]) -> tuple[Build, dict[str, JsonValue]]:
    """What the report shows of the CUDA build, and the whole of it; nothing was asked for where it is no artifact.

    Raises:
        RecordError: it cannot be read, or does not say what became of it.
    """
    path = next((path for path in artifacts if backends.maker(path) == "cuda"), None)
    if path is None:
        return NO_BUILD, NO_BUILD.model_dump()
    return files.read_model(path, Build), files.read_json(path)


def states(artifacts: Sequence[Path]) -> dict[str, dict[str, JsonValue]]:
    """What became of the backends' own stages, by backend.

    Raises:
        RecordError: an artifact cannot be read.
    """
    made = {str(backends.maker(path)): files.read_json(path) for path in artifacts}
    return {name: {key: found.get(key) for key in ("status", "reason", "fix")} for name, found in made.items()}


def set_previous_aside(layout: Layout) -> None:
    """Keep the last good report as gate_report.previous.md.

    Snakemake deletes a rule's outputs before it runs the rule, so the last report is kept in a file that no rule
    declares; it is set aside before anything of this run can fail.
    """
    if layout.kept_report.exists():
        layout.kept_report.replace(layout.previous_report)
