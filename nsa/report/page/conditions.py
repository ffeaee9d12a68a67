"""What the figures were measured on and how, and which card measured what."""

from __future__ import annotations

from collections.abc import Sequence

from nsa.report.analysis.summary import CellFigures, CellSummary, ran


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
        counts = f"{span(processes)} process{'' if processes == [1] else 'es'}, "
        counts += f"{span(repetitions)} repetitions of the whole step in each cell"
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
