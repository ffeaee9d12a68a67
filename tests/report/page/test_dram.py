"""DRAM bytes in the report: the ratio of counted to expected, or why nothing was counted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from synthetic import GPU, OLD, header

from nsa.errors import RecordError
from nsa.records import files
from nsa.records.dram import CountedShape, DramFacts, KernelBytes
from nsa.records.outcome import Skipped
from nsa.records.shapes import CheckShape
from nsa.report.analysis.dram import read_dram
from nsa.report.analysis.read import Record
from nsa.report.page.dram import HEADER, absent, dram_table, not_counted

if TYPE_CHECKING:
    from tests.report.conftest import Lab

FMHA = KernelBytes(name="fmha", bytes_read=400_000_000, bytes_written=0)
GATHER = KernelBytes(name="gather", bytes_read=600_000_000, bytes_written=250_000_000)
SHAPE = CountedShape(
    shape=CheckShape(1024, 4, 128, 128, 16, 64, 4096, 4, "bfloat16"),
    bytes_expected=500_000_000,
    bytes_read=1_000_000_000,
    bytes_written=250_000_000,
    ratio=2.5,
    kernels=(FMHA, GATHER),
)


def shape(**changes: object) -> CountedShape:
    """A counted shape with what differs from the sound one."""
    return SHAPE.model_copy(update=changes)


def write(
    folder: Path,
    backend: str = "sdpa",
    *shapes: CountedShape,
    status: str = "ok",
    said: dict[str, object] | None = None,
) -> Path:
    """The record of a backend that counted these shapes, or one."""
    facts = DramFacts(device=GPU, shapes=shapes or (SHAPE,))
    path = folder / f"dram_{backend}.json"
    files.write_model(path, header("dram", backend, "cuda", status, facts, said=said))
    return path


def test_one_line_per_backend_and_shape(tmp_path: Path) -> None:
    """A line has the sizes, the bytes in MB, the ratio, and the kernel that moved most where there are several."""
    alone = shape(bytes_read=501_000_000, bytes_written=0, ratio=1.002, kernels=(FMHA,))
    found = [read_dram(write(tmp_path)), read_dram(write(tmp_path, "cuda", alone))]
    sizes = ("1024", "4", "128", "128", "16")
    table = dram_table(found)
    assert table.header == HEADER
    assert table.rows == (
        ("sdpa", *sizes, "2, most by gather", "500", "1000", "250", "2.50"),
        ("cuda", *sizes, "fmha", "500", "501", "0.00", "1.00"),
    )


def test_backends_that_share_a_reason_share_a_line(lab: Lab) -> None:
    """Backends with the same reason and fix share a line, and every reason is said."""
    skipped = Skipped(reason="no ncu in PATH", fix="install Nsight Compute")
    found: list[Record[DramFacts]] = [Record(name, f"dram_{name}", skipped) for name in ("sdpa", "cuda")]
    found.append(read_dram(write(lab.root, "triton", status="failed")))
    assert not_counted(absent(found)) == [
        "`triton`: failed (triton is not here). Fix: run on a GPU.",
        "`sdpa`, `cuda`: skipped (no ncu in PATH). Fix: install Nsight Compute.",
    ]
    assert dram_table(found).rows == ()


def test_a_count_of_yesterdays_kernel_is_not_shown(lab: Lab) -> None:
    """A stale count has no line, and says that it is stale."""
    path = write(lab.root)
    assert read_dram(path, lab.stamps).status == "ok"
    old = read_dram(path, {"dram-sdpa": OLD})
    assert old.status == "stale" and dram_table([old]).rows == ()
    assert not_counted(absent([old]))[0].startswith("`sdpa`: STALE (sources changed")


@pytest.mark.parametrize(
    ("shapes", "said", "reason"),
    [
        ((), {"schema_version": 1}, "schema version 1, expected 2"),
        ((), {"stage": "check"}, "stage is 'check', expected 'dram'"),
        ((), {"stamp": None}, "stamp"),
        ((shape(ratio=float("nan")),), {}, "ratio"),
        ((shape(bytes_read=-1),), {}, "bytes_read is -1, expected a number of at least 0"),
        ((shape(bytes_read=None),), {}, "bytes_read"),
        ((shape(kernels=()),), {}, "names no kernels"),
        ((shape(kernels=(FMHA.model_copy(update={"bytes_written": -1}),)),), {}, "bytes_written of fmha is -1"),
    ],
)
def test_a_faulty_record_is_invalid(
    shapes: tuple[CountedShape, ...], said: dict[str, object], reason: str, tmp_path: Path
) -> None:
    """A record of another format, stage or without figures is INVALID, and says which."""
    record = read_dram(write(tmp_path, "sdpa", *shapes, said=said))
    assert record.status == "invalid" and reason in str(record.reason)
    assert dram_table([record]).rows == ()


def test_a_record_that_counted_nothing_is_invalid(tmp_path: Path) -> None:
    """Status ok without a shape is a contradiction."""
    path = tmp_path / "dram_sdpa.json"
    facts = DramFacts(device=GPU, shapes=())
    files.write_model(path, header("dram", "sdpa", "cuda", "ok", facts))
    assert "no counted shapes" in str(read_dram(path).reason)


def test_a_broken_file_is_invalid_and_a_wrong_name_an_error(tmp_path: Path) -> None:
    """One bad file hides no other; a path without a backend is an error."""
    path = tmp_path / "dram_sdpa.json"
    path.write_text("{")
    assert read_dram(path).status == "invalid"
    write(tmp_path, "cuda").rename(path)
    assert "backend is 'cuda', expected 'sdpa'" in str(read_dram(path).reason)
    with pytest.raises(RecordError, match="says no backend"):
        read_dram(tmp_path / "sdpa.json")


def test_the_report_shows_the_ratio_after_the_kernel_check(lab: Lab) -> None:
    """The stage's figures and reasons have a section of their own; without the stage there is no heading."""
    dram = [write(lab.root), write(lab.root, "cuda", status="skipped")]
    shown = []
    for given in ([], dram):
        lab.render([], dram=given)
        shown.append(lab.layout.report.read_text())
    without, with_counts = shown
    heading = "### DRAM bytes: counted by the hardware, and expected"
    places = [
        with_counts.index(part)
        for part in (
            "## Kernel check",
            heading,
            "| sdpa | 1024 | 4 | 128 | 128 | 16 | 2, most by gather | 500 | 1000 | 250 | 2.50 |\n",
            "\n- `cuda`: skipped (cuda is not here). Fix: run on a GPU.\n",
            "\n\n## Environment and provenance",
        )
    ]
    assert places == sorted(places)
    assert heading not in without
    assert ">2.50</td>" in lab.layout.html.read_text()
