"""DRAM bytes in the report: the ratio of counted to expected, or why nothing was counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nsa.errors import RecordError
from nsa.records import parquet
from nsa.report.analysis.dram import read_dram
from nsa.report.page.dram import HEADER, dram_table, not_counted
from nsa.report.page.render import report

if TYPE_CHECKING:
    from tests.report.conftest import Lab

STAMP = {"sources": "s0", "settings": "c0", "machine": "m0"}
SHAPE = {
    "rows": 1024,
    "heads_per_group": 4,
    "head_dim": 128,
    "value_dim": 128,
    "sel_count": 16,
    "bytes_expected": 500_000_000,
    "bytes_read": 1_000_000_000,
    "bytes_written": 250_000_000,
    "bytes_counted": 1_250_000_000,
    "ratio": 2.5,
    "kernels": [
        {"name": "fmha", "bytes_read": 400_000_000, "bytes_written": 0},
        {"name": "gather", "bytes_read": 600_000_000, "bytes_written": 250_000_000},
    ],
}
SKIPPED = {"status": "skipped", "reason": "no ncu in PATH", "fix": "install Nsight Compute", "shapes": []}


def write(folder: Path, backend: str = "sdpa", **changes: Any) -> Path:
    """The record of a backend that counted one shape, with what differs from it."""
    facts = {"schema_version": parquet.SCHEMA_VERSION, "stage": "dram", "backend": backend, "stamp": STAMP}
    facts |= {"status": "ok", "reason": None, "fix": None, "shapes": [SHAPE], "device": "cuda"}
    path = folder / f"dram_{backend}.json"
    path.write_text(json.dumps({**facts, **changes}))
    return path


def test_one_line_per_backend_and_shape(tmp_path: Path) -> None:
    """Breaks if the ratio cannot be read, or several kernels look like one."""
    alone = {**SHAPE, "bytes_read": 501_000_000, "bytes_written": 0, "ratio": 1.002, "kernels": SHAPE["kernels"][:1]}
    found = [read_dram(write(tmp_path)), read_dram(write(tmp_path, "cuda", shapes=[alone]))]
    sizes = ("1024", "4", "128", "128", "16")
    table = dram_table(found)
    assert table.header == HEADER
    assert table.rows == (
        ("sdpa", *sizes, "2, most by gather", "500", "1000", "250", "2.50"),
        ("cuda", *sizes, "fmha", "500", "501", "0.00", "1.00"),
    )


def test_backends_that_share_a_reason_share_a_line(tmp_path: Path) -> None:
    """Breaks if four lines of the report say the same, or a reason is dropped."""
    denied = {**SKIPPED, "status": "failed", "reason": "ncu failed: ERR_NVGPUCTRPERM", "fix": "run as root"}
    found = [read_dram(write(tmp_path, name, **SKIPPED)) for name in ("sdpa", "cuda")]
    found.append(read_dram(write(tmp_path, "triton", **denied)))
    assert not_counted(found) == [
        "`triton`: failed (ncu failed: ERR_NVGPUCTRPERM). Fix: run as root.",
        "`sdpa`, `cuda`: skipped (no ncu in PATH). Fix: install Nsight Compute.",
    ]
    assert dram_table(found).rows == ()


def test_a_count_of_yesterdays_kernel_is_not_shown(tmp_path: Path) -> None:
    """Breaks if the bytes of a kernel that no longer exists stand in the report."""
    path = write(tmp_path)
    assert read_dram(path, {"dram-sdpa": STAMP}).status == "ok"
    old = read_dram(path, {"dram-sdpa": {**STAMP, "sources": "s1"}})
    assert old.status == "stale" and dram_table([old]).rows == ()
    assert not_counted([old])[0].startswith("`sdpa`: STALE (sources changed")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 0}, "schema_version is 0, expected 1"),
        ({"stage": "check"}, "stage is 'check', expected 'dram'"),
        ({"shapes": []}, "no counted shapes"),
        ({"shapes": [{**SHAPE, "ratio": float("nan")}]}, "ratio is nan, expected a number"),
        ({"shapes": [{**SHAPE, "bytes_read": None}]}, "bytes_read is None, expected a number"),
        ({"shapes": [{**SHAPE, "kernels": []}]}, "names no kernels"),
        ({"shapes": [{**SHAPE, "kernels": [{"name": "f"}]}]}, "bytes_read is None, expected a number"),
    ],
)
def test_a_faulty_record_is_invalid(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Breaks if a record of another format or without figures ends the report in a traceback."""
    record = read_dram(write(tmp_path, **changes))
    assert record.status == "invalid" and reason in str(record.reason)
    assert dram_table([record]).rows == ()


def test_a_broken_file_is_invalid_and_a_wrong_name_an_error(tmp_path: Path) -> None:
    """Breaks if one bad file hides the others."""
    path = tmp_path / "dram_sdpa.json"
    path.write_text("{")
    assert read_dram(path).status == "invalid"
    write(tmp_path, "cuda").rename(path)
    assert "backend is 'cuda', expected 'sdpa'" in str(read_dram(path).reason)
    with pytest.raises(RecordError, match="says no backend"):
        read_dram(tmp_path / "sdpa.json")


def test_the_report_shows_the_ratio_after_the_kernel_check(lab: Lab) -> None:
    """Breaks if the stage's figures do not reach the reader, or a report without the stage shows its heading."""
    environment = lab.root / "environment.json"
    environment.write_text(json.dumps({"cuda": True}))
    stamps = {**lab.stamps, "dram-sdpa": STAMP, "dram-cuda": STAMP}
    dram = [write(lab.root), write(lab.root, "cuda", **SKIPPED)]
    shown = []
    for given in ([], dram):
        report(environment, None, [], [], [], stamps, lab.settings, {}, lab.root, dram=given)
        shown.append((lab.root / "gate_report.md").read_text())
    without, with_counts = shown
    heading = "### DRAM bytes: counted by the hardware, and expected"
    places = [
        with_counts.index(part)
        for part in (
            "## Kernel check",
            heading,
            "| sdpa | 1024 | 4 | 128 | 128 | 16 | 2, most by gather | 500 | 1000 | 250 | 2.50 |\n",
            "\n- `cuda`: skipped (no ncu in PATH). Fix: install Nsight Compute.\n",
            "\n\n## Environment and provenance",
        )
    ]
    assert places == sorted(places)
    assert heading not in without
    assert "<td>2.50</td>" in (lab.root / "gate_report.html").read_text()
