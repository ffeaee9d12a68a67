"""The blocking checks on what a float64 step says of a decode cell (docs/decode_cell.md#the-decode-cell-is-judged)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nsa.records.decode import DecodeFacts, Judged
from nsa.records.words import ARMS, OTHER
from nsa.report.analysis.step_errors import TOLERANCE, wrong_variants
from nsa.report.verdict.checks import Check
from nsa.report.verdict.words import BLOCKING

CLEAR = 0.99  # of the rows, that rounding must not be able to decide
CLOSE_ROWS = 2  # that may always be close: a few percent of a CPU's few rows
NAMED = 3  # errors that a message names; the record has them all


def step_checks(name: str, facts: DecodeFacts) -> list[Check]:
    """Whether the timed steps of a cell gave, wrote and chose what a float64 step does."""
    return [
        step_wrong(name, facts),
        cache_wrong(name, facts),
        blocks_wrong(name, facts.judged),
        blocks_close(name, sum(each.rows for each in facts.judged), sum(each.clear for each in facts.judged)),
    ]


def step_wrong(name: str, facts: DecodeFacts) -> Check:
    """The outputs of every arm, in every process; a further packing that is wrong is left out of the comparison."""
    allowed, out = TOLERANCE[facts.geometry.dtype], wrong_variants(facts)
    errors = _worst(each.outputs for each in facts.judged)
    errors = {arm: error for arm, error in errors.items() if arm.partition(OTHER)[2] not in out}
    missing = [arm for arm in ARMS if arm not in errors or not all(arm in each.outputs for each in facts.judged)]
    steps = sum(each.steps for each in facts.judged)
    wrong = _beyond(errors, allowed)
    largest = _largest(errors)
    message = f"the outputs of {steps} timed steps are within {largest or 0:.2g} of float64"
    if wrong:
        message = f"outputs differ from float64: {wrong}; at most {allowed:g} is rounding"
    if missing:
        message = f"no output was judged of {', '.join(missing)}"
    return Check("step_wrong", BLOCKING, name, largest, allowed, message, bool(wrong or missing))


def cache_wrong(name: str, facts: DecodeFacts) -> Check:
    """What prefill and the steps wrote into the caches, and the query."""
    allowed = TOLERANCE[facts.geometry.dtype]
    errors = _worst(each.states for each in facts.judged)
    clauses = [f"{wrong}; at most {allowed:g} is rounding"] if (wrong := _beyond(errors, allowed)) else []
    if not all(each.lengths_right for each in facts.judged):
        clauses.append("the lengths after a step are not S")
    if not all(each.caches_kept for each in facts.judged):
        clauses.append("a step has changed tokens that it did not append")
    largest = _largest(errors)
    message = f"queries and caches are within {largest or 0:.2g} of float64"
    if clauses:
        message = f"queries or caches differ from float64: {'; '.join(clauses)}"
    if not errors:
        message = "no cache was judged"
    return Check("cache_wrong", BLOCKING, name, largest, allowed, message, bool(clauses) or not errors)


def blocks_wrong(name: str, judged: Sequence[Judged]) -> Check:
    """The blocks that routing chose on the cell's own queries and compressed keys."""
    rows, wrong = sum(each.rows for each in judged), sum(each.wrong for each in judged)
    message = f"the blocks of {rows} rows are those of highest importance"
    if wrong:
        message = f"{wrong} rows, of any arm with routing, have other blocks than those of highest importance"
    if not rows:
        message = "no row's blocks were judged"
    return Check("blocks_wrong", BLOCKING, name, float(wrong), 0.0, message, wrong > 0 or not rows)


def blocks_close(name: str, rows: int, clear: int) -> Check:
    """Whether importance decides between blocks by more than rounding: else any choice would pass."""
    message = f"in {clear} of {rows} rows the n-th and the next importance differ by more than 1e-5"
    fired = rows - clear > max(CLOSE_ROWS, (1 - CLEAR) * rows)
    return Check("blocks_close", BLOCKING, name, clear / rows if rows else None, CLEAR, message, fired)


def _worst(each: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """By name, the largest error of any process; None, which is not finite, is the largest."""
    found: dict[str, float | None] = {}
    for errors in each:
        for name, error in errors.items():
            old = found.get(name, 0.0)
            found[name] = None if old is None or error is None else max(old, error)
    return found


def _beyond(errors: Mapping[str, float | None], allowed: float) -> str:
    """The errors beyond what is allowed, the first few by name."""
    wrong = [
        f"{name} {'is not finite' if error is None else f'by {error:.2g}'}"
        for name, error in errors.items()
        if error is None or error > allowed
    ]
    more = f", and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
    return ", ".join(wrong[:NAMED]) + more


def _largest(errors: Mapping[str, float | None]) -> float | None:
    """The largest error; None where one is not finite, or there is none."""
    finite = [error for error in errors.values() if error is not None]
    return max(finite) if finite and len(finite) == len(errors) else None
