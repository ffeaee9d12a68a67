"""The gate report: reads every record, decides both gates and writes the report, its figure and its tables."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import yaml
from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from pydantic import ConfigDict, JsonValue

from nsa import backends
from nsa.config import Config
from nsa.layout import ACCEPTED, Layout
from nsa.records import files
from nsa.records.facts import Environment
from nsa.records.merge import Model
from nsa.report.accepted.compare import compare
from nsa.report.analysis.dram import read_dram
from nsa.report.analysis.read import Stamps
from nsa.report.analysis.summary import CellFigures, CellSummary, ran
from nsa.report.page import export, tables
from nsa.report.page.dram import absent, dram_table, not_counted
from nsa.report.page.invest_tables import next_table, shares_table
from nsa.report.page.packed_variants import packed_variants_table
from nsa.report.page.plots import decode_breakdown
from nsa.report.verdict import checks as checking
from nsa.report.verdict.gates import percent
from nsa.report.verdict.run import read_run

FIGURE = "figures/decode_breakdown.png"
LOG_LINES = 20
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto }
td, th { border: 1px solid #ccc; padding: 2px 8px; text-align: left; white-space: nowrap }
pre { background: #f5f5f5; padding: 8px; overflow-x: auto } img { max-width: 100% }"""


class Build(Model):
    """What the report shows of the CUDA build's manifest, which holds more."""

    model_config = ConfigDict(extra="ignore")

    status: str
    reason: str | None = None
    fix: str | None = None
    log: str | None = None

    @property
    def end_of_log(self) -> str:
        """Where a compiler says what is wrong."""
        return "\n".join((self.log or "").splitlines()[-LOG_LINES:])


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
) -> None:
    """Write gate_report.md and .html, gate.json, decode.csv, checks.parquet and the figure; keep the last good report.

    Args:
        environment: the JSON record of the probe.
        artifacts: what the backends' own stages made; that of the CUDA build is shown.
        cells, checks: results/decode/*/S*.parquet, results/check_*.parquet.
        stamps: today's digests by stage, "decode-<backend>", "check-<backend>", "dram-<backend>".
        config: what decides, and what the report says that it was made from; see nsa.config.recorded.
        out_dir: where to, results/ in the pipeline.
        dram: results/dram_*.json.
        accepted: the folder of accepted runs; it need not exist.

    Raises:
        RecordError: the environment or the build record cannot be read, or a path names no cell. Any other faulty
            record is INVALID or STALE in the report.
    """
    about = files.read_model(environment, Environment)
    built, manifest = read_build(artifacts)
    layout = Layout(out_dir)
    set_previous_aside(layout)
    run = read_run(about, cells, checks, stamps, config)
    counted = [read_dram(path, stamps) for path in dram]
    change = compare(run, accepted, config)

    packed = run.kernel.get(config.baseline)
    read = [*run.records.values(), *counted]
    origin = tables.provenance(
        record.provenance for record in read if record.provenance and record.status not in ("stale", "invalid")
    )
    document = export.gate(
        run,
        change,
        config,
        {
            "environment": export.as_json(about),
            "build": manifest,
            "artifacts": export.as_json(states(artifacts)),
            "provenance": {key: [*sorted(seen)] for key, seen in origin.items()},
            "stamp": export.as_json(stamps.get("report")),
        },
    )
    drawn = decode_breakdown(run.cells, out_dir / FIGURE)
    text = markdown_text(
        invest=run.invest,
        accepts=run.accepts,
        change=change,
        changes=tables.change_table(change),
        conditions=conditions(run.cells),
        contexts=tables.context_table(run.cells, run.invest),
        not_run=tables.not_run(run.cells),
        parts=tables.parts_table(run.cells),
        shares=shares_table(run.cells, config.baseline, config.gates),
        nexts=next_table(run.cells, config.baseline),
        ceiling=tables.ceiling_table(run.cells, config.baseline),
        figure=FIGURE,
        anomalies=tables.anomalies(run.checks),
        checks=len(run.checks),
        thresholds={name: f"{value:g}" for name, value in config.gates.accept.model_dump().items()},
        confidence=percent(config.gates.confidence),
        kernels=[(found, tables.kernel_table(found)) for found in run.accepts],
        packed=packed_variants_table(packed, config.check, config.gates) if packed else None,
        dram=dram_table(counted),
        not_counted=not_counted(absent(counted)),
        environment=tables.facts_table(about.model_dump(mode="json")),
        build=built,
        provenance=tables.provenance_table(origin),
        config=yaml.safe_dump(config.document(), sort_keys=False, allow_unicode=True, default_flow_style=None).strip(),
        commits=sorted(origin.get("git_commit", ())),
        dirty="True" in origin.get("git_dirty", ()),
        report=layout.report,
    )
    export.write_csv(layout.csv, run.cells)
    checking.write(layout.checks, run.checks)
    export.write_gate(layout.gate, document)
    files.write_text(layout.html, html_text(text, out_dir / FIGURE if drawn else None))
    files.write_text(layout.kept_report, text)  # see set_previous_aside
    files.write_text(layout.report, text)


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
    return {name: {key: found.get(key) for key in ("status", "reason")} for name, found in made.items()}


def set_previous_aside(layout: Layout) -> None:
    """Keep the last good report as gate_report.previous.md.

    Snakemake deletes a rule's outputs before it runs the rule, so the last report is kept in a file that no rule
    declares; it is set aside before anything of this run can fail.
    """
    if layout.kept_report.exists():
        layout.kept_report.replace(layout.previous_report)


def conditions(cells: Sequence[CellSummary]) -> list[str]:
    """What the figures were measured on and how, one line per device and layer."""
    alike: dict[str, list[CellFigures]] = {}
    for cell in ran(cells):
        on_cuda = cell.device.kind == "cuda"
        method = "CUDA-graph replay, cold L2" if on_cuda else "eager wall time on a CPU, which decides nothing"
        made = cell.geometry
        layer = f"B={made.batch} dim={made.dim} H={made.heads} G={made.groups} D={made.head_dim} Dv={made.value_dim}"
        layer += f" l={made.cmp_block} d={made.cmp_stride} l'={made.sel_block} n={made.sel_count} w={made.window}"
        layer += f" φ={made.phi}"
        alike.setdefault(f"{cell.device.name}, {made.dtype}, {layer}; {method}", []).append(cell)
    lines = []
    for line, group in alike.items():
        processes = sorted({cell.processes for cell in group})
        repetitions = sorted({cell.repetitions for cell in group})
        counts = f"{span(processes)} processes, {span(repetitions)} repetitions of the whole step in each cell"
        lines.append(f"{line}; {counts}.{cards(group)}")
    return lines


def cards(cells: Sequence[CellFigures]) -> str:
    """Which card measured what, where there were several of a model."""
    by_card: dict[str, dict[str, list[str]]] = {}
    for cell in cells:
        by_card.setdefault(str(cell.device.uuid), {}).setdefault(cell.backend, []).append(str(cell.S))
    if len(by_card) == 1:
        return ""
    each = (
        f"{card}: " + ", ".join(f"{backend} at S = {', '.join(contexts)}" for backend, contexts in measured.items())
        for card, measured in sorted(by_card.items())
    )
    return f" {len(by_card)} cards of the model: {'; '.join(each)}."


def span(values: Sequence[int]) -> str:
    """Sorted values as one, or as first to last."""
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def markdown_text(**content: object) -> str:
    """The report in Markdown, from its template."""
    environment = Templates(
        loader=PackageLoader("nsa.report.page"),
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment.get_template("gate_report.md.j2").render(**content)


def plain(text: str) -> str:
    """Text on one line that neither ends a Markdown table's cell nor opens an HTML tag."""
    return re.sub(r"<(?=[A-Za-z/!])", "&lt;", " ".join(str(text).split()).replace("|", "\\|"))


def html_text(text: str, figure: Path | None) -> str:
    """The same report as one HTML page that carries its figure."""
    from markdown import markdown

    body = markdown(text, extensions=["tables", "fenced_code", "sane_lists"])
    if figure is not None:
        data = base64.b64encode(figure.read_bytes()).decode()
        body = body.replace(f'src="{FIGURE}"', f'src="data:image/png;base64,{data}"')
    head = f'<meta charset="utf-8"><title>NSA decode: gate report</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'
