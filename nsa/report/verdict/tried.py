"""Whether a kernel or core check tried all that a whole one tries; what it lacks keeps it from deciding."""

from __future__ import annotations

from collections.abc import Sequence

from nsa.records.facts import CheckFacts, CoreFacts
from nsa.records.shapes import AXES, CORE_AXES, CoreShape, GridShape
from nsa.records.tried import DENSE_RIVALS, PACKED_RIVALS, check_corners, core_corners
from nsa.records.words import EVERY_SHAPE, REFUSED, TIMED, UNSEEN
from nsa.report.analysis.read import Record
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING

NAMED = 3  # of what is missing, that a message names
Checked = Record[CheckFacts] | Record[CoreFacts]


def corners_missing(record: Checked) -> Check:
    """Every corner case of a whole check is there with all its calls, unless one of them ended it with a fault."""
    facts = record.facts
    if isinstance(facts, CoreFacts):
        rows, whole = record.rows[~record.rows["case"].isin((TIMED, UNSEEN))], core_corners()
    else:
        rows, whole = record.corners, check_corners(facts.dtype)
    rows = rows[rows["case"].notna() & rows["backend"].eq(record.backend)]
    calls, faults = rows.groupby("case").size(), set(rows[rows["fault"].notna()]["case"])
    lacking = [case for case, many in whole.items() if calls.get(case, 0) < (1 if case in faults else many)]
    tried = len(whole) - len(lacking)
    message = f"{tried} corner cases were tried"
    if lacking:
        known = f"{tried} of {len(whole)} corner cases were tried, without {_some(lacking)}"
        message = f"{known if len(rows) else 'no corner case was tried'}; delete {record.name}.parquet and rerun"
    return Check("corners_missing", BLOCKING, record.name, float(tried), float(len(whole)), message, bool(lacking))


def rival_missing(record: Checked) -> Check:
    """Wherever a candidate runs every rival runs beside it, or the record says why not: the fastest may be missing."""
    facts = record.facts
    names, axes = (DENSE_RIVALS, CORE_AXES) if isinstance(facts, CoreFacts) else (PACKED_RIVALS, AXES)
    rows = record.rows
    ran = rows[rows["value_ns"].notna()] if record.on_cuda else rows
    mine = rows[rows["backend"].eq(record.backend) & (rows["case"].isna() | rows["case"].eq(TIMED))]
    refuses = mine[mine["fault"].fillna("").astype(str).str.startswith(REFUSED)]
    refused = {str(shape_of(axes, sizes)) for sizes in refuses[[*axes]].itertuples(index=False)}
    beside: dict[str, set[str]] = {}  # of each shape, all that ran
    for backend, *sizes in ran[["backend", *axes]].drop_duplicates().itertuples(index=False):
        beside.setdefault(str(shape_of(axes, sizes)), set()).add(str(backend))
    shapes = [shape for shape, some in beside.items() if record.backend in some and shape not in refused]
    said = {(left.name, left.shape) for left in facts.left_out}
    clauses = [
        f"{name.partition(':')[2]} on {on_shapes(lacking, len(shapes))}"
        for name in names
        if (name, EVERY_SHAPE) not in said
        and (lacking := [each for each in shapes if name not in beside[each] and (name, each) not in said])
    ]
    message = "every rival was timed, or left out for a reason"
    if clauses:
        message = f"{'; '.join(clauses)}: neither run nor left out for a reason; delete {record.name}.parquet and rerun"
    return Check("rival_missing", BLOCKING, record.name, float(len(clauses)), 0.0, message, bool(clauses))


def shape_of(axes: Sequence[str], sizes: Sequence[object]) -> GridShape | CoreShape:
    """The shape of a row's columns, of a core check or of a kernel check."""
    return CoreShape.of(sizes) if axes == CORE_AXES else GridShape(*(int(str(size)) for size in sizes))


def on_shapes(shapes: Sequence[str], of: int) -> str:
    """All of them, or the first one and how many more."""
    if len(shapes) == of:
        return f"all {of} shapes"
    return shapes[0] + (f" and {len(shapes) - 1} more shapes" if len(shapes) > 1 else "")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
