"""The tables of the invest gate: the share under each packing, and what each part of the step could win."""

from __future__ import annotations

from collections.abc import Sequence

from nsa.config import GateSettings
from nsa.report.analysis.ceilings import STEP_PARTS
from nsa.report.analysis.summary import CellFigures, CellSummary, ran
from nsa.report.page.tables import MISSING, Table, bracketed
from nsa.report.verdict.invest import share_verdict


def shares_table(cells: Sequence[CellSummary], baseline: str, settings: GateSettings) -> Table:
    """One line per S and packed variant of the baseline, the fastest first, and what its share alone would say.

    The last line of an S is the fastest one's share, were compressed attention and routing torch operators.
    """
    lines = []
    for cell in measured(cells, baseline):
        for name, arms in sorted(cell.variants.items(), key=lambda item: item[1].ms_total.value):
            verdict, _ = share_verdict(arms, settings)
            shown = f"{name} (fastest: decides)" if name == cell.variant else name
            lines.append((str(cell.S), shown, bracketed(arms.ms_total), bracketed(arms.sel_pct), verdict))
        if cell.torch_parts is not None:
            total, share = cell.torch_parts
            shown = f"{cell.variant}, other parts in torch operators"
            lines.append((str(cell.S), shown, bracketed(total), bracketed(share), MISSING))
    return Table(("S", "selection packed by", "total ms", "sel %", "alone would say"), tuple(lines))


def next_table(cells: Sequence[CellSummary], baseline: str) -> Table:
    """One line per S: how many times as fast the baseline's step would be without each of its parts."""
    lines = [
        (str(cell.S), *(bracketed(cell.ceilings.get(part)) for part in STEP_PARTS))
        for cell in measured(cells, baseline)
        if cell.ceilings
    ]
    return Table(("S", *(f"without {part}" for part in STEP_PARTS)), tuple(lines))


def measured(cells: Sequence[CellSummary], baseline: str) -> list[CellFigures]:
    """The baseline's cells that a CUDA device measured: CPU times say nothing of what a GPU step could win."""
    return [cell for cell in ran(cells) if cell.backend == baseline and cell.device.kind == "cuda"]
