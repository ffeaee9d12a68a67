"""The file of the history: what a report adds to it, once, and what keeps it from being lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow.parquet as pq
import pytest
from remembered import measure, on, remember

from nsa.errors import RecordError
from nsa.records import parquet
from nsa.report.accepted.keep import keep
from nsa.report.analysis.summary import figures
from nsa.report.history.measurement import Measurement
from nsa.report.history.store import add, read

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

FILE = "nvidia-synthetic.parquet"


def kept(lab: Lab) -> list[Measurement]:
    """What the history holds."""
    return read(lab.history / FILE)[1]


def test_a_report_adds_a_row_for_every_record_of_a_gpu(lab: Lab) -> None:
    """Cells, kernel checks and cores are there with commit, date, time, interval, control, verdict and settings."""
    remember(lab, 20, cores=True)
    model, found = read(lab.history / FILE)
    assert model == "NVIDIA Synthetic"
    assert [(each.kind, each.backend, each.S) for each in found] == [
        ("decode", "sdpa", 128),
        ("decode", "sdpa", 2048),
        ("decode", "cuda", 2048),
        ("check", "cuda", None),
        ("core", "fused", None),
    ]
    assert {(each.git_commit, each.git_dirty, each.measured_utc[:10]) for each in found} == {
        ("commit20", False, "2026-11-20")
    }
    cell = figures(lab.summaries([lab.layout.cell("sdpa", 128)])[0].cell, 0.95).arms.ms_total
    assert (found[0].time_ms, found[0].time_ms_lo, found[0].time_ms_hi) == (cell.value, cell.low, cell.high)
    assert [found[0].verdict, found[3].verdict, found[4].verdict] == ["GO", "ACCEPT", "ACCEPT"]
    assert found[2].verdict is None and all(each.blocked is None for each in found)
    assert [len(each.shapes) for each in found] == [0, 0, 0, 4, 4]
    assert all(len(each.processes) == 10 and len(each.control) == 2 for each in found)


def test_no_record_is_added_twice(lab: Lab) -> None:
    """A report that is made again of the same records leaves the file as it is; a new record adds its row alone."""
    remember(lab, 20)
    before = (lab.history / FILE).stat()
    add(lab.history, lab.run(*measure(lab, 20)[:2]), lab.accepted, lab.config)
    after = (lab.history / FILE).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    cells, checks, _ = measure(lab, 20)
    lab.cell("cuda", 2048, said={"provenance": on(21)})
    add(lab.history, lab.run(cells, checks), lab.accepted, lab.config)
    assert [(each.backend, each.S, each.run_utc[:10]) for each in kept(lab)[4:]] == [("cuda", 2048, "2026-11-21")]


def test_the_accepted_run_is_marked_and_stays_so(lab: Lab) -> None:
    """A report marks what is accepted by then, also once another run is; what the history lacks of it is added."""
    run = remember(lab, 20)
    keep(run, lab.config, lab.accepted, cpu=False)
    (lab.history / FILE).unlink()
    later = remember(lab, 21)
    assert [(each.measured_utc[8:10], each.accepted) for each in kept(lab)] == [("21", False)] * 4 + [("20", True)] * 4
    keep(later, lab.config, lab.accepted, cpu=False)
    remember(lab, 22)
    marked = {each.measured_utc[8:10] for each in kept(lab) if each.accepted}
    assert marked == {"20", "21"}


def test_a_cpu_is_not_remembered(lab: Lab) -> None:
    """Times of a CPU decide nothing, and the page says whose history there is."""
    lab.render([lab.cell("sdpa", S, device="cpu") for S in lab.config.contexts])
    assert not lab.history.exists()
    assert "The history is of runs on a GPU" in lab.layout.html.read_text()


@pytest.mark.parametrize("fault", ["broken", "older", "foreign", "another GPU"])
def test_a_history_that_cannot_be_read_is_one_line_and_is_left_as_it_is(fault: str, lab: Lab) -> None:
    """It says what is wrong and what to do, and is not touched; once it is away a new one begins."""
    remember(lab, 20)
    path = lab.history / FILE
    table = pq.read_table(path)
    match fault:
        case "broken":
            path.write_bytes(b"PAR1 but no more")
        case "older":
            pq.write_table(table.replace_schema_metadata({b"nsa": b'{"schema_version": 1, "stage": "history"}'}), path)
        case "foreign":
            pd.DataFrame({"a": [1]}).to_parquet(path)
        case "another GPU":
            meta = table.schema.metadata[parquet.KEY].replace(b"Synthetic", b"Other")
            pq.write_table(table.replace_schema_metadata({b"nsa": meta}), path)
    before = path.read_bytes()
    with pytest.raises(RecordError, match=rf"{FILE}.*; move it away") as caught:
        remember(lab, 21)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    path.rename(path.with_suffix(".old"))
    remember(lab, 21)
    assert len(kept(lab)) == 4


def test_a_history_that_is_missing_says_what_to_run(tmp_path: Path) -> None:
    """What is read must be there."""
    with pytest.raises(RecordError, match=r"nvidia-synthetic\.parquet: no such record"):
        read(tmp_path / FILE)


def test_a_history_that_takes_no_run_keeps_no_report_from_being(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where the folder would be: the report is there, and says on its page and at the console what is not."""
    said: list[str] = []
    monkeypatch.setattr("nsa.report.page.render.announce", said.append)
    lab.history.write_text("")
    lab.render(*measure(lab, 20)[:2])
    assert said == [f"history: {lab.history}: cannot be locked (File exists); expected a writable folder"]
    assert "This run was not added to the history, which is not shown" in lab.layout.html.read_text()
    assert lab.layout.report.exists()
