"""results/paper_table4.md: NSA over dense attention on this machine's clock, beside the paper's expectation.

The paper's Table 4 (arXiv 2502.11089) counts bytes: 4.0, 6.4, 9.1 and 11.6 times fewer at 8k, 16k, 32k and 64k. Here
cores and dense attention are timed in the same processes, in turns, on the same caches, and judged: it is made of the
records of the core check, so that nothing is measured twice and the verdict and this page cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from nsa.layout import Layout
from nsa.records import files, parquet
from nsa.records.made import PaperTableHeader
from nsa.records.words import DENSE, Row
from nsa.report.analysis.core import CoreFigures, Rival
from nsa.report.analysis.read import Stamps
from nsa.report.page.core_records import (
    CORE_COLUMNS,
    CorePage,
    Cores,
    bounds,
    conditions,
    core_row,
    fault_of,
    no_core,
    not_measured,
    read_cores,
)
from nsa.report.page.paper_plot import draw
from nsa.report.page.roofline import markdown
from nsa.report.page.tables import MISSING, Table, bracketed, plain, significant
from nsa.report.verdict.gates import percent

EXPECTED = {8192: 4.0, 16384: 6.4, 32768: 9.1, 65536: 11.6}  # the paper's Table 4: dense over NSA, in bytes
METHOD = """Clean cold L2 (written, then read), one CUDA-graph replay a call, between events; a core and every kernel of
dense attention take turns in random order, each replay with queries, gates and newest tokens of its own and its output
judged against float64. Keys are noise, runs of topics, and with sinks, in turn. Floor: K and V of the compressed, the
selected and the window's tokens over the copy bandwidth of the same run; dense must read all of K and V once."""
COLUMNS = pa.schema(
    [
        *CORE_COLUMNS,
        ("dense", pa.string()),  # the fastest correct kernel
        ("dense_us", pa.float64()),
        ("ratio", pa.float64()),  # dense over core
        ("ratio_lo", pa.float64()),
        ("ratio_hi", pa.float64()),
        ("expected", pa.float64()),  # the paper's
        ("fault", pa.string()),  # why there is no ratio
    ]
)


def report(paths: Sequence[Path], stamps: Stamps, settings: CorePage, page: Path, table: Path, drawing: Path) -> None:
    """Write the page, its table and its figure.

    Args:
        paths: results/core/*.parquet.
        stamps: today's digests by stage.
        settings: the grid, and what makes an output correct.
        page, table, drawing: where to.
    """
    found = [read_cores(path, stamps, settings) for path in paths]
    parts = [part for cores in found for part in _section(cores, settings.confidence)]
    if not found:
        parts = [no_core(Layout().paper_table)]
    text = "\n\n".join(["# Decode cores and dense attention: the paper's Table 4 on the clock", *parts])
    draw({each.record.backend: _drawn(each) for each in found if each.record.on_cuda}, EXPECTED, drawing)
    parquet.write(table, [row for cores in found for row in _rows(cores)], COLUMNS, PaperTableHeader())
    files.write_text(page, f"{text}\n\nRerun: `snakemake {Layout().paper_table}`\n")


def _drawn(cores: Cores) -> list[CoreFigures]:
    """The shapes whose times count."""
    return [found for found in cores.figures if fault_of(found) is None and found.speedup is not None]


def _section(cores: Cores, confidence: float) -> list[str]:
    record, heading = cores.record, f"## {cores.record.backend}"
    if not cores.figures:
        return [heading, not_measured(record)]
    facts = record.facts
    left = {f"{each.name.removeprefix(DENSE)}: {each.reason}" for each in facts.left_out}
    return [
        heading,
        conditions(cores, confidence),
        METHOD,
        markdown(_table(cores.figures)),
        "### Every kernel of dense attention, µs",
        markdown(_dense_table(cores.figures)),
        *(["Not timed, with the reason: " + plain("; ".join(sorted(left))) + "."] if left else []),
    ]


def _table(figures: Sequence[CoreFigures]) -> Table:
    header = (
        "D / Dv",
        "B",
        "S",
        "core µs",
        "floor µs",
        "× floor",
        "over the floor µs",
        "bandwidth share",
        "fastest dense µs",
        "which",
        "dense / core",
        "the paper's",
        "share of it",
    )
    lines = []
    for found in figures:
        shape, fault = found.shape, fault_of(found)
        time = None if fault else found.time_us
        expected, winner = EXPECTED.get(shape.context), found.winner
        over = (time.value / found.floor_us, time.value - found.floor_us) if time and found.floor_us else (None, None)
        ratio = None if fault else found.speedup
        lines.append(
            (
                f"{shape.head_dim} / {shape.value_dim}",
                str(shape.batch),
                str(shape.context),
                fault or bracketed(time),
                significant(found.floor_us),
                *(significant(value) for value in over),
                percent(round(found.rate, 3)) if found.rate is not None and not fault else MISSING,
                bracketed(winner.time_us) if winner else MISSING,
                winner.name.removeprefix(DENSE) if winner else MISSING,
                bracketed(ratio),
                f"{expected:g}" if expected else MISSING,
                percent(round(ratio.value / expected, 3)) if ratio and expected else MISSING,
            )
        )
    return Table(header, tuple(lines))


def _dense_table(figures: Sequence[CoreFigures]) -> Table:
    names = sorted({rival.name for found in figures for rival in found.dense})
    lines = []
    for found in figures:
        by_name = {rival.name: rival for rival in found.dense}
        shape = found.shape
        cells = (_cell(by_name.get(name)) for name in names)
        lines.append((f"{shape.head_dim} / {shape.value_dim}", str(shape.batch), str(shape.context), *cells))
    return Table(("D / Dv", "B", "S", *(name.removeprefix(DENSE) for name in names)), tuple(lines))


def _cell(rival: Rival | None) -> str:
    if rival is None:
        return MISSING
    return f"WRONG: {rival.fault}" if rival.fault else bracketed(rival.time_us)


def _rows(cores: Cores) -> list[Row]:
    return [_row(cores.record.backend, found) for found in cores.figures if cores.record.on_cuda]


def _row(backend: str, found: CoreFigures) -> Row:
    fault, winner = fault_of(found), found.winner
    return {
        **core_row(backend, found, fault),
        **bounds("ratio", None if fault else found.speedup),
        "dense": winner.name.removeprefix(DENSE) if winner else None,
        "dense_us": winner.time_us.value if winner and winner.time_us else None,
        "expected": EXPECTED.get(found.shape.context),
    }
