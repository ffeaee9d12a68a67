"""The gate report's tables of decode cores: times beside dense attention, errors, corner cases."""

from __future__ import annotations

from nsa.records.words import DENSE
from nsa.report.page.tables import MISSING, Table, bracketed, significant
from nsa.report.verdict.cores import CoreAccept, wrong


def core_table(found: CoreAccept) -> Table:
    """One line per shape of the grid for one core."""
    header = (
        "B",
        "S",
        "D",
        "Dv",
        "core µs",
        "floor µs",
        "composed µs",
        "fastest dense µs",
        "which",
        "speedup",
        "error",
        "of composed",
        "correct",
        "verdict",
    )
    lines = []
    for each in found.shapes:
        figures, shape = each.figures, each.figures.shape
        winner, composed = figures.winner, figures.composed
        lines.append(
            (
                *(str(size) for size in (shape.batch, shape.context, shape.head_dim, shape.value_dim)),
                bracketed(figures.time_us),
                significant(figures.floor_us),
                significant(composed.time_us.value if composed and composed.time_us else None),
                significant(winner.time_us.value if winner and winner.time_us else None),
                winner.name.removeprefix(DENSE) if winner else MISSING,
                bracketed(figures.speedup),
                *(f"{error:.1e}" for error in (figures.error, figures.composed_error)),
                {True: "yes", False: "NO", None: MISSING}[each.correct],
                each.verdict,
            )
        )
    return Table(header, tuple(lines))


def core_corner_line(found: CoreAccept) -> str | None:
    """What the corner cases say of one core, in one line; None where there are none."""
    if not found.corners:
        return None
    failing = [f"{corner.case}: {corner.fault}" for corner in wrong(found.corners)]
    refused = [corner.case for corner in found.corners if corner.refused]
    right = len(found.corners) - len(failing) - len(refused)
    others = f"; wrong: {'; '.join(failing)}" if failing else ""
    others += f"; refused: {', '.join(refused)}" if refused else ""
    return f"Corner cases, drawn with seed {found.corners[0].seed}: {right} of {len(found.corners)} right{others}."
