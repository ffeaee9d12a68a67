"""The gate report: reads every record, decides both gates and writes the report, its figure and its tables."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from nsa.records import files
from nsa.report.accepted.compare import compare
from nsa.report.analysis.dram import read_dram
from nsa.report.analysis.read import Stamps
from nsa.report.analysis.summary import Row
from nsa.report.page import export, tables
from nsa.report.page.dram import dram_table, not_counted
from nsa.report.page.packed_variants import competition
from nsa.report.page.plots import decode_breakdown
from nsa.report.verdict import checks as checking
from nsa.report.verdict.gates import percent
from nsa.report.verdict.run import ReportSettings, read_run

FIGURE = "figures/decode_breakdown.png"
LOG_LINES = 20
NO_BUILD = {"status": "not asked for", "reason": None, "fix": None, "log": None}
STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-size: 13px; margin: 1rem 0; display: block; overflow-x: auto }
td, th { border: 1px solid #ccc; padding: 2px 8px; text-align: left; white-space: nowrap }
pre { background: #f5f5f5; padding: 8px; overflow-x: auto } img { max-width: 100% }"""


def report(
    environment: Path,
    build: Path | None,
    summaries: Sequence[Path],
    cells: Sequence[Path],
    checks: Sequence[Path],
    stamps: Stamps,
    settings: ReportSettings,
    echo: Mapping[str, Any],
    out_dir: Path,
    dram: Sequence[Path] = (),
    accepted: Path = Path("accepted"),
) -> dict[str, Any]:
    """Write gate_report.md and .html, gate.json, decode.csv, checks.parquet and the figure; keep the last good report.

    Args:
        environment, build: the JSON records of the probe and of the CUDA build; None where no build was asked for.
        summaries, cells, checks: results/decode_*.parquet, results/decode/*/S*.parquet, results/check_*.parquet.
        stamps: today's digests by stage, "decode-<backend>", "check-<backend>", "dram-<backend>".
        settings: what decides.
        echo: the configuration as the report shows it.
        out_dir: where to, results/ in the pipeline.
        dram: results/dram_*.json.
        accepted: the folder of accepted runs; it need not exist.

    Returns:
        The content of gate.json.

    Raises:
        RecordError: the environment or the build record cannot be read, or a path names no cell. Any other faulty
            record is INVALID or STALE in the report.
    """
    about, built = files.read_json(environment), NO_BUILD if build is None else files.read_json(build)
    set_previous_aside(out_dir)
    run = read_run(about, summaries, cells, checks, stamps, settings)
    rows, found, verdict = run.rows, run.checks, run.invest
    counted = [read_dram(path, stamps) for path in dram]
    change = compare(run, accepted, echo, settings.gates)

    packed = run.kernel.get(settings.baseline)
    used = [record.facts for record in [*run.records.values(), *counted] if record.status not in ("stale", "invalid")]
    origin = tables.provenance(facts.get("provenance") or {} for facts in used)
    document = export.gate(
        verdict,
        run.accepts,
        rows,
        found,
        change,
        settings.gates,
        {
            "environment": about,
            "build": built,
            "provenance": {key: sorted(seen) for key, seen in origin.items()},
            "stamp": stamps.get("report"),
        },
    )
    drawn = decode_breakdown(rows, out_dir / FIGURE)
    text = markdown_text(
        invest=verdict,
        accepts=run.accepts,
        change=change,
        changes=tables.change_table(change),
        conditions=conditions(rows),
        contexts=tables.context_table(rows, verdict),
        not_run=tables.not_run(rows),
        parts=tables.parts_table(rows),
        ceiling=tables.ceiling_table(rows, settings.baseline),
        figure=FIGURE,
        anomalies=tables.anomalies(found),
        checks=len(found),
        thresholds={name: f"{value:g}" for name, value in settings.gates.accept.items()},
        confidence=percent(settings.gates.confidence),
        kernels=[(found_accept, tables.kernel_table(found_accept)) for found_accept in run.accepts],
        packed=competition(packed, settings.check, settings.gates) if packed else None,
        dram=dram_table(counted),
        not_counted=not_counted(counted),
        environment=tables.facts_table(about),
        build={**built, "log": "\n".join(str(built.get("log") or "").splitlines()[-LOG_LINES:])},
        provenance=tables.provenance_table(origin),
        config=yaml.safe_dump(dict(echo), sort_keys=False, allow_unicode=True, default_flow_style=None).strip(),
        commits=sorted(origin.get("git_commit", ())),
        dirty="True" in origin.get("git_dirty", ()),
        report=out_dir / "gate_report.md",
    )
    export.write_csv(out_dir / "decode.csv", rows)
    checking.write(out_dir / "checks.parquet", found)
    export.write_gate(out_dir / "gate.json", document)
    files.write_text(out_dir / "gate_report.html", html_text(text, out_dir / FIGURE if drawn else None))
    files.write_text(out_dir / ".gate_report.md", text)  # see set_previous_aside
    files.write_text(out_dir / "gate_report.md", text)
    return document


def set_previous_aside(out_dir: Path) -> None:
    """Keep the last good report as gate_report.previous.md.

    Snakemake deletes a rule's outputs before it runs the rule, so the last report is kept in a file that no rule
    declares; it is set aside before anything of this run can fail.
    """
    kept = out_dir / ".gate_report.md"
    if kept.exists():
        kept.replace(out_dir / "gate_report.previous.md")


def conditions(rows: Sequence[Row]) -> list[str]:
    """What the figures were measured on and how, one line per device and layer."""
    alike: dict[str, list[Row]] = {}
    for row in tables.ran(rows):
        on_cuda = row["device"] == "cuda"
        method = "CUDA-graph replay, cold L2" if on_cuda else "eager wall time on a CPU, which decides nothing"
        layer = f"B={row['batch']} dim={row['dim']} H={row['heads']} G={row['groups']} D={row['head_dim']}"
        layer += f" Dv={row['value_dim']} l={row['cmp_block']} d={row['cmp_stride']} l'={row['sel_block']}"
        layer += f" n={row['sel_count']} w={row['window']} φ={row['phi']}"
        alike.setdefault(f"{row['device_name']}, {row['dtype']}, {layer}; {method}", []).append(row)
    lines = []
    for line, group in alike.items():
        processes, repetitions = (sorted({row[key] for row in group}) for key in ("processes", "repetitions"))
        counts = f"{span(processes)} processes, {span(repetitions)} repetitions of the whole step in each cell"
        lines.append(f"{line}; {counts}.{cards(group)}")
    return lines


def cards(rows: Sequence[Row]) -> str:
    """Which card measured what, where there were several of a model."""
    by_card: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        by_card.setdefault(str(row["device_uuid"]), {}).setdefault(row["backend"], []).append(str(row["S"]))
    if len(by_card) == 1:
        return ""
    each = (
        f"{card}: " + ", ".join(f"{backend} at S = {', '.join(contexts)}" for backend, contexts in cells.items())
        for card, cells in sorted(by_card.items())
    )
    return f" {len(by_card)} cards of the model: {'; '.join(each)}."


def span(values: Sequence[int]) -> str:
    """Sorted values as one, or as first to last."""
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def markdown_text(**content: Any) -> str:
    """The report in Markdown, from its template."""
    environment = Environment(
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
