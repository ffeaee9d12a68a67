"""Which checks reject a kernel, and how each of them is switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import pandas as pd

from nsa.bench.check import correctness, replicate
from nsa.bench.method import accuracy, failures, kernels
from nsa.config import GateSettings
from nsa.records.facts import CheckFacts
from nsa.report.analysis.corners import WRONG, corners
from nsa.report.analysis.kernel import Tolerance
from nsa.report.analysis.read import Record

ALLOWED = Tolerance.of(GateSettings().accept)
PLAIN = "plain tensor"  # the check whose finding leaves no record
SIGHT = "first sight"
OF_FAULTS = {  # by words of the fault: checks that write one
    "refused: ": "takes the grid",
    "was changed": "inputs unchanged",
    "differ: nondeterministic": "same bits",
    "replays on the same inputs differ": "same bits",
    "tokens where it was given": "reads",
    "did not follow": "follows",
    "under another name": "packed SDPA",
    "the output is": SIGHT,
    "not exactly zero": SIGHT,
}
OF_ERRORS = ("fresh inputs", "unseen inputs", "timed outputs")  # checks that compare outputs with the oracle
CHECKS = (*dict.fromkeys(OF_FAULTS.values()), *OF_ERRORS, PLAIN)
Found = dict[str, str]  # the checks that reject a kernel, and what they say


def rejections(record: Record[CheckFacts]) -> Found:
    """The checks that reject the kernel of a record that is ok."""
    rows = record.rows[record.rows["backend"] == record.backend]
    found: Found = {}
    for fault in rows["fault"].dropna():
        found.setdefault(next(check for words, check in OF_FAULTS.items() if words in fault), fault)
    for check, part in zip(OF_ERRORS, _stages(rows), strict=True):
        allowed = ALLOWED.error_ratio * part["sdpa_oracle_error"]
        judged = part["sdpa_oracle_error"].notna()
        judged &= part["oracle_error"].notna() | part["fault"].isna()  # without an error the output has another shape
        wrong = part[judged & ~((part["oracle_error"] <= allowed) & (part["mae"] <= ALLOWED.mae))]
        if len(wrong):
            found[check] = f"oracle error {wrong['oracle_error'].max(skipna=False):.2g}"
    for corner in corners(record, ALLOWED):
        if corner.status == WRONG:
            found[corner.case] = corner.reason
    return found


def _stages(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows of fresh inputs, of unseen inputs in what is timed, and of timed outputs."""
    untimed = rows[rows["judged"].isna() & rows["value_ns"].isna()]
    return untimed[untimed["seed"].notna()], untimed[untimed["seed"].isna()], rows[rows["judged"].notna()]


def _nothing(*_: object) -> None:
    """In the place of a check that finds a fault."""


def _without_repeat(timed: Any, unseen: Any, repeat: Any) -> Any:
    return _on_unseen(timed, unseen, ())


_on_unseen = kernels.on_unseen
_OFF: dict[str, tuple[tuple[object, str, Any], ...]] = {
    "inputs unchanged": (
        (accuracy, "same_bits", lambda one, other: True),
        (kernels, "changed_input", _nothing),
        (replicate, "changed_input", _nothing),
    ),
    "same bits": ((correctness, "repeats", _nothing), (replicate, "on_unseen", _without_repeat)),
    "reads": ((correctness, "reads_what_it_is_given", _nothing),),
    "follows": ((correctness, "follows_its_inputs", _nothing),),
    "packed SDPA": ((correctness, "is_packed_sdpa", _nothing),),
    SIGHT: ((accuracy, "fault", _nothing), (kernels, "fault", _nothing)),
    PLAIN: ((failures, "is_plain", lambda output: True),),
}


@contextmanager
def switched_off(check: str | None) -> Iterator[None]:
    """One check finds nothing; those that compare outputs hide no other, and are left out of what was found."""
    with ExitStack() as stack:
        for module, name, instead in _OFF.get(check or "", ()):
            stack.enter_context(patch.object(module, name, instead))
        yield


def hides_others(check: str) -> bool:
    """Whether a kernel that this check rejects must be tried again without it, to see what else does."""
    return check in _OFF
