"""What the tests of the corpora ask of an entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wrong.checks import CHECKS
from wrong.entry import Entry
from wrong.trial import rejected_by

ShowRow = Callable[[str, Sequence[str], Sequence[str]], None]


def assert_rejected(name: str, entry: Entry, show_row: ShowRow) -> None:
    """The gate rejects the entry, by the check that is meant to and with its words; by others as the entry says."""
    trial, found = rejected_by(entry, few=not entry.only and entry.check in CHECKS)
    said = f"{entry.check}: {found.get(entry.check, 'PASSES')}"
    show_row(
        "wrong kernels", ("kernel", "rejected by", "also by"), (name, said, ", ".join(found.keys() - {entry.check}))
    )
    assert trial.accept is None or trial.accept.wrong_shapes, "the gate lets it pass"
    assert entry.because in found.get(entry.check, ""), f"{entry.check} lets it pass; {found}"
    assert (set(found) == {entry.check}) == entry.only, f"rejected by {', '.join(found)}"
