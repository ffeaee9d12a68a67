"""The guide's console commands, on good files and on every broken one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nsa.config import GateSettings
from nsa.errors import RecordError
from nsa.report.analysis.summary import collect
from nsa.report.page.guide import DECODE_HEADER, decode_table_row, summarize

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.conftest import Lab

HEADER = "S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected\n"
GATES = GateSettings()


def summary_of(path: Path, content: str) -> list[str]:
    """What is said of a file with this content."""
    path.write_text(content)
    return list(summarize(path, GATES).lines)


def test_summarize_gives_shares_reads_and_what_they_mean(tmp_path: Path) -> None:
    """The guide's summary: percentages of the total, and the threshold that each context meets."""
    rows = "128,2.0,0.5,0.6,0.4,704,704\n256,2.0,0.5,0.5,0.4,960,960\n512,2.0,0.5,0.48,0.4,960,959\n"
    lines = summary_of(tmp_path / "decode.csv", HEADER + rows)
    assert lines[0].split() == ["S", "total", "cmp%", "sel%", "win%", "reads"]
    assert lines[1].split() == ["128", "2.0000", "25.0", "30.0", "20.0", "704/704"]
    assert summarize(tmp_path / "decode.csv", GATES).reads_differ
    assert lines[5:] == [
        "S = 128: sel is 30.0 % of the step, at least 30 %: a selection kernel can pay.",
        "S = 256: sel is 25.0 % of the step, between 25 % and 30 %: borderline.",
        (
            "S = 512: sel is 24.0 % of the step, below 25 %: other parts dominate. READS DIFFER: 960/959; report it "
            "(causality or schedule)."
        ),
    ]


def test_summarize_reads_the_reports_csv_and_a_summary_alike(lab: Lab) -> None:
    """The CSV and the Parquet of one run tell the same."""
    cells = [lab.cell("sdpa", 128), lab.cell("sdpa", 2048, status="oom")]
    lab.render(cells)
    collect(cells, lab.layout.summary("sdpa"), 0.95)
    from_csv = list(summarize(lab.layout.csv, GATES).lines)
    assert list(summarize(lab.layout.summary("sdpa"), GATES).lines) == from_csv
    assert from_csv[1].split()[:2] == ["sdpa", "128"]
    assert from_csv[-1] == "sdpa S = 2048: oom, sdpa is not here."


def test_recorded_shares_are_shown_as_the_gate_saw_them(tmp_path: Path) -> None:
    """A share that the file holds is shown as it is, and checked."""
    content = HEADER.replace("\n", ",backend,sel_pct\n") + "128,2.0,0.5,0.6,0.4,704,704,,31.5\n"
    lines = summary_of(tmp_path / "decode.csv", content)
    assert lines[1].split() == ["-", "128", "2.0000", "25.0", "31.5", "20.0", "704/704"]
    with pytest.raises(RecordError, match="row 1, column sel_pct: got 'x'"):
        summary_of(tmp_path / "decode.csv", content.replace("31.5", "x"))


# As where the gates are one-hot and skip nothing: each branch takes as long as all of the step.
ONE_HOT = """128,5.3,5.57,5.6,5.62,704,704
256,5.3,5.2,8.43,5.3,960,960
512,5.3,-0.2,2.0,1.0,1159,1159
1024,5.3,5.2,1.0,-0.001,1159,1159
"""


def test_summarize_decides_nothing_on_impossible_shares(tmp_path: Path) -> None:
    """A share above 100 % or below 0 of any part is named as impossible, and nothing is concluded from any other."""
    assert summary_of(tmp_path / "decode.csv", HEADER + ONE_HOT)[-4:] == [
        "S = 128: cmp is 105.1 % of the step: such shares are impossible, and decide nothing.",
        "S = 256: sel is 159.1 % of the step: such shares are impossible, and decide nothing.",
        "S = 512: cmp is -3.774 % of the step: such shares are impossible, and decide nothing.",
        "S = 1024: win is -0.01887 % of the step: such shares are impossible, and decide nothing.",
    ]


def test_summarize_decides_nothing_on_parts_that_are_more_than_the_whole(tmp_path: Path) -> None:
    """Parts that together exceed the step by more than the gate allows decide nothing, recorded shares included."""
    rows = "128,2.0,0.62,0.8,0.64,704,704\n256,2.0,0.64,0.8,0.64,960,960\n"
    lines = summary_of(tmp_path / "decode.csv", HEADER + rows)
    assert lines[-2:] == [
        "S = 128: sel is 40.0 % of the step, at least 30 %: a selection kernel can pay.",
        "S = 256: cmp, sel, win are together 104 % of the step: such shares are impossible, and decide nothing.",
    ]
    content = HEADER.replace("\n", ",sel_pct\n") + "128,2.0,0.5,0.6,0.4,704,704,150\n"
    assert "sel is 150 % of the step: such shares are impossible" in " ".join(
        summary_of(tmp_path / "decode.csv", content)
    )


def test_summarize_names_contexts_without_figures_together(tmp_path: Path) -> None:
    """One line for each reason of a backend, however many contexts it holds for."""
    content = HEADER.replace("\n", ",backend,status,reason\n") + "".join(
        f"{S},,,,,,,cuda,{said}\n" for S, said in ((64, "oom,full"), (128, "failed,why"), (256, "failed,why"))
    )
    lines = summary_of(tmp_path / "decode.csv", content)
    assert lines[-2:] == ["cuda S = 64: oom, full.", "cuda S = 128, 256: failed, why."]


def test_summarize_says_that_a_cpu_decides_nothing(tmp_path: Path) -> None:
    """A table of a CPU says that it decides nothing."""
    content = HEADER.replace("\n", ",device\n") + "128,2.0,0.5,0.6,0.4,704,704,cpu\n"
    assert "Measured on a CPU" in " ".join(summary_of(tmp_path / "decode.csv", content))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is no CSV"),
        (HEADER, "holds no rows"),
        ("a,b\n1,2\n", "lacks the columns S, ms_total, ms_cmp, ms_sel, ms_win, reads_actual, reads_expected"),
        (HEADER + "128,fast,1,1,1,1,1\n", "row 1, column ms_total: got 'fast', expected a finite number above 0"),
        (HEADER + "128,1,1,1,1,1,1\n256,-1,1,1,1,1,1\n", "row 2, column ms_total: got '-1'"),
        (HEADER + "128,inf,1,1,1,1,1\n", "row 1, column ms_total: got 'inf'"),
        (HEADER + "128,1,inf,1,1,1,1\n", "row 1, column ms_cmp: got 'inf', expected a finite number"),
        (HEADER + "128,1,1,1,1,,1\n", "row 1, column reads_actual: got nan"),
        (HEADER + ",1,1,1,1,1,1\n", "row 1, column S: got nan"),
        (HEADER + "128.5,1,1,1,1,1,1\n", "row 1, column S: got '128.5', expected a whole number from 1 to 2147483647"),
        (HEADER + "1e30,1,1,1,1,1,1\n", "row 1, column S: got '1e30', expected a whole number from 1 to 2147483647"),
        (HEADER + "128,1,1,1,1,1,1\n128,2,1,1,1,1,1\n", "row 2, column S: got 128 again, expected each context"),
        (HEADER + "128,1,1,1,1,-1,1\n", "row 1, column reads_actual: got '-1', expected a finite number of at least 0"),
        (HEADER + "128,1,1,1,1,1,0.5\n", "row 1, column reads_expected: got '0.5', expected a whole number"),
        (HEADER + "128,\x1b[31m,1,1,1,1,1\n", r"column ms_total: got '\x1b[31m', expected"),
        (HEADER + "128,1,1,1,1,1,1,1\n", "more values than its header has columns"),
        (HEADER + "1,2\n1,2,3,4,5,6,7,8,9\n", "is no CSV"),
    ],
)
def test_a_broken_csv_is_one_line_that_names_the_place(tmp_path: Path, content: str, said: str) -> None:
    """A wrong value is one line that names the file, the row, the column and what was expected."""
    path = tmp_path / "decode.csv"
    path.write_text(content)
    with pytest.raises(RecordError) as error:
        summarize(path, GATES)
    assert said in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_files_texts_move_no_cursor(tmp_path: Path) -> None:
    """What a file says of a backend is shown, and obeyed by no terminal."""
    content = HEADER.replace("\n", ",backend,status,reason\n") + "128,,,,,,,\x1b[31mx,failed,a\x07b\n"
    assert summary_of(tmp_path / "decode.csv", content)[-1] == r"\x1b[31mx S = 128: failed, a\x07b."


def test_a_users_own_file_is_never_to_be_deleted(tmp_path: Path) -> None:
    """A CSV under another name is no broken record of ours."""
    (tmp_path / "mine.parquet").write_text(HEADER + "128,1,1,1,1,1,1\n")
    with pytest.raises(RecordError, match=r"not a readable Parquet.*; expected a decode CSV \(as \*\.csv\)") as error:
        summarize(tmp_path / "mine.parquet", GATES)
    assert "delete" not in str(error.value)


def test_an_export_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    """No run makes decode_*.parquet by itself."""
    path = tmp_path / "decode_cuda.parquet"
    with pytest.raises(RecordError, match=f"which `snakemake {path}` makes"):
        summarize(path, GATES)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    """Missing, binary and foreign files each say what was expected."""
    with pytest.raises(RecordError, match="no such file"):
        summarize(tmp_path / "none.csv", GATES)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01,\x80")
    with pytest.raises(RecordError, match="is no CSV"):
        summarize(tmp_path / "binary.csv", GATES)
    (tmp_path / "broken.parquet").write_bytes(b"broken")
    with pytest.raises(RecordError, match="not a readable Parquet"):
        summarize(tmp_path / "broken.parquet", GATES)
    with pytest.raises(RecordError, match="cannot be read"):
        summarize(tmp_path, GATES)


def test_a_check_record_is_no_decode_table(lab: Lab) -> None:
    """A record of another stage is refused by the columns that it lacks."""
    with pytest.raises(RecordError, match="lacks the columns S, ms_total"):
        summarize(lab.check("cuda"), GATES)


def test_decode_table_is_the_guides_console_table(lab: Lab) -> None:
    """A cell's line has the guide's columns; one that did not run shows its status in place of its time."""
    ran, failed = lab.summaries([lab.cell("sdpa", 128, noise=0), lab.cell("sdpa", 256, status="oom")])
    assert DECODE_HEADER == ("Context", "Total(ms)", "cmp(ms)", "sel(ms)", "win(ms)", "Reads")
    assert decode_table_row(ran) == ("128", "0.0961", "0.0100", "0.0400", "0.0120", "263/263")
    assert decode_table_row(failed) == ("256", "oom", "-", "-", "-", "-")
