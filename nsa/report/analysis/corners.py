"""The corner cases of a kernel check: what each of them says (docs/kernel_check.md#corner-cases)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nsa.records.facts import CheckFacts
from nsa.records.shapes import AXES, GridShape
from nsa.records.words import REFUSED, SKIPPED
from nsa.report.analysis.kernel import Tolerance
from nsa.report.analysis.read import Record

Row = Mapping[str, object]
RIGHT, WRONG, NOT_TAKEN, NOT_RUN = "right", "wrong", "refused", "skipped"

# An error that is right whatever packed SDPA's is, in units of half the last place: where packed SDPA rounds by luck to
# less, an honest kernel may not. docs/kernel_check.md#corner-cases has what honest kernels of four designs did.
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
FLOOR = {"float16": 1.5 * UNIT["float16"], "bfloat16": 1.5 * UNIT["bfloat16"], "float32": 1024 * UNIT["float32"]}


@dataclass(frozen=True)
class Corner:
    """What one case says of a kernel.

    Attributes:
        case: its name.
        seed: with which it was drawn.
        status: one of right, wrong, refused, skipped.
        reason: why it is not right, as a clause; empty where it is.
        oracle_error, allowed: of the call that comes nearest to being wrong, or is; None where none ran.
    """

    case: str
    seed: int
    status: str
    reason: str
    oracle_error: float | None
    allowed: float | None


def corners(record: Record[CheckFacts], tolerance: Tolerance) -> tuple[Corner, ...]:
    """Every corner case of an ok kernel check, in the order of its rows."""
    by_case: dict[str, list[Row]] = {}
    for row in record.corners.to_dict("records"):
        by_case.setdefault(str(row["case"]), []).append({str(name): value for name, value in row.items()})
    return tuple(corner(case, rows, tolerance) for case, rows in by_case.items())


def corner(case: str, rows: Sequence[Row], tolerance: Tolerance) -> Corner:
    """One case of one or more calls; the first call that is wrong gives the reason."""
    seed = int(_number(rows[0]["seed"]))
    said = [fault for row in rows if isinstance(fault := row["fault"], str)]
    for prefix, status in ((REFUSED, NOT_TAKEN), (SKIPPED, NOT_RUN)):
        if said and said[0].startswith(prefix):
            return Corner(case, seed, status, said[0].removeprefix(prefix), None, None)
    allowed = [allowed_error(str(row["dtype"]), _number(row["sdpa_oracle_error"]), tolerance) for row in rows]
    errors = [_number(row["oracle_error"]) for row in rows]
    shares = [math.inf if math.isnan(error) else error / most for error, most in zip(errors, allowed, strict=True)]
    worst = shares.index(max(shares))
    reasons = [f"fault: {said[0]}"] if said else []
    if not errors[worst] <= allowed[worst] and not (said and math.isnan(errors[worst])):
        shape = GridShape(*(int(_number(rows[worst][axis])) for axis in AXES))
        reasons.append(f"oracle error {errors[worst]:.2g} > {allowed[worst]:.2g} ({shape})")
    status = WRONG if reasons else RIGHT
    return Corner(case, seed, status, ", ".join(reasons), errors[worst], allowed[worst])


def _number(value: object) -> float:
    """A number of a row; NaN where there is none."""
    return float(value) if isinstance(value, int | float) else math.nan


def allowed_error(dtype: str, packed: float, tolerance: Tolerance) -> float:
    """The largest worst-row error that is right, where packed SDPA has `packed`: the floor where that is no number."""
    return max(FLOOR[dtype], tolerance.error_ratio * packed) if math.isfinite(packed) else FLOOR[dtype]
