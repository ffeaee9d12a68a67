"""The table of wrong kernels in docs/wrong_kernels.md is what its record gives."""

from __future__ import annotations

import json

from wrong.corpora import KINDS
from wrong.table import NEWER, PAGE, RECORD, rendered, with_table


def test_the_page_is_what_the_record_gives() -> None:
    """Rendering changes nothing."""
    page = PAGE.read_text()
    assert with_table(page, rendered(json.loads(RECORD.read_text()))) == page


def test_the_record_has_every_entry_of_its_device() -> None:
    """No entry was added, renamed or dropped since but those that the page names, and none passed."""
    record = json.loads(RECORD.read_text())
    device = "cpu" if record["device"] == "CPU" else "cuda"
    known = {name for found in KINDS.values() for name, entry in found.items() if entry.on in (None, device)}
    assert {entry["name"] for entry in record["entries"]} == known - NEWER
    assert known >= NEWER and all(name in PAGE.read_text() for name in NEWER)
    assert all(entry["by"] for entry in record["entries"])
