"""The table "kernel, rejected by which check": from a run on this machine to a record, from the record to its page.

PYTHONPATH=tests python -m wrong.table record   # tries every entry that this machine can, two minutes on a GPU
PYTHONPATH=tests python -m wrong.table render   # writes the table into docs/wrong_kernels.md
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from standins import ON_CPU
from wrong.corpora import KINDS
from wrong.entry import Entry
from wrong.trial import GIGABYTES, TIMED, on_a_gpu, rejected_by

from nsa.machine.host import Host

RECORD = Path(__file__).parent / "rejected.json"
PAGE = Path(__file__).parents[2] / "docs" / "wrong_kernels.md"
BEGIN, END = "<!-- begin: wrong.table -->", "<!-- end: wrong.table -->"
NEWER = {"keeps sums of values in half precision", "drops a token where the last block lacks one"}  # than the record
TOGETHER = {"cuda": 8, "cpu": 2}  # processes that try entries at the same time


def record(kind: str) -> dict:
    """What rejected each entry that the machine can try: together, but for those whose times or gigabytes decide."""
    entries = [(of, name) for of, found in KINDS.items() for name, entry in found.items() if entry.on in (None, kind)]
    alone = [each for each in entries if kind == "cuda" and KINDS[each[0]][each[1]].check in GIGABYTES | TIMED]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(TOGETHER[kind], mp_context=context) as pool:
        others = [each for each in entries if each not in alone]
        found = dict(zip(others, pool.map(tried, others, [kind] * len(others)), strict=True))
    found |= {each: tried(each, kind) for each in alone}
    return {
        "device": torch.cuda.get_device_name() if kind == "cuda" else "CPU",
        "torch": torch.__version__,
        "entries": [{"kind": of, "name": name, "by": found[of, name]} for of, name in entries],
    }


def tried(which: Sequence[str], kind: str) -> list[str]:
    """The checks that reject one entry, (its kind, its name)."""
    start, (of, name) = time.monotonic(), which
    found = by(KINDS[of][name], on_a_gpu() if kind == "cuda" else ON_CPU)
    print(f"{time.monotonic() - start:.1f} s: {name}: {', '.join(found[:3]) or 'PASSES'}", flush=True)
    return found


def written(found: dict) -> str:
    """The record as JSON, a line an entry."""
    lines = [json.dumps(entry, ensure_ascii=False) for entry in found["entries"]]
    head = {key: value for key, value in found.items() if key != "entries"}
    return json.dumps(head)[:-1] + ', "entries": [\n' + ",\n".join(lines) + "\n]}\n"


def by(entry: Entry, host: Host) -> list[str]:
    """The checks that reject an entry, the one that is meant to first."""
    _, found = rejected_by(entry, host)
    others = [check for check in found if check != entry.check and check not in TIMED]
    return ([entry.check] if entry.check in found else []) + (others or [each for each in found if each != entry.check])


def rendered(found: dict) -> str:
    """The part of the page between its marks."""
    lines = [
        f"Tried on {found['device']} with torch {found['torch']}: {len(found['entries'])} kernels.",
        "",
        f"Newer, and tried on a CPU alone (by the tests): {', '.join(sorted(NEWER))}.",
        "",
        "| | kernel | rejected by | and by |",
        "| --- | --- | --- | --- |",
    ]
    for entry in found["entries"]:
        first, *others = entry["by"] or ["**nothing**"]
        lines.append(f"| {entry['kind']} | {entry['name']} | {first} | {_few(others)} |")
    return "\n".join(lines)


def _few(checks: list[str]) -> str:
    """Up to three names, and how many more."""
    more = f", {len(checks) - 3} more" if len(checks) > 3 else ""
    return ", ".join(checks[:3]) + more or "–"


def with_table(page: str, table: str) -> str:
    """The page with another table between the marks.

    Raises:
        ValueError: the page has no marks.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"docs/wrong_kernels.md: expected the lines {BEGIN} and {END}")
    return f"{head}{begin}\n{table}\n{end}{tail}"


def main(command: str) -> None:
    """Make the record, or the page."""
    if command == "record":
        RECORD.write_text(written(record("cuda" if torch.cuda.is_available() else "cpu")))
    elif command == "render":
        PAGE.write_text(with_table(PAGE.read_text(), rendered(json.loads(RECORD.read_text()))))
    else:
        sys.exit(f"wrong.table: got {command!r}, expected record or render")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
