"""The console of a run: one line for each job, what failed with the end of its log, and the verdicts last."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import pytest

from nsa.layout import Layout
from nsa.pipeline import progress
from nsa.pipeline.progress import Progress, duration, pages, take_over, verdicts


class Console:
    """A console that is told what Snakemake logs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stream, self.finished, self.now = io.StringIO(), 0, 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)
        self.handler = Progress(self.stream, self.finish)

    def finish(self) -> None:
        self.finished += 1

    def log(self, message: str = "", level: int = logging.INFO, **extra: Any) -> None:
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        record.__dict__.update(extra)
        self.handler.emit(record)

    def job(self, jobid: int, rule: str, seconds: float, log: str = "job.log") -> None:
        self.log(event="job_info", jobid=jobid, rule_name=rule, rule_msg=f"{rule}: {jobid}", shellcmd="x", log=[log])
        self.now += seconds

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    return Console(monkeypatch)


def test_a_job_is_one_line_with_its_duration_and_what_is_left(console: Console) -> None:
    """Two cells and a check: the second cell is expected to take as long as the first, the check as the mean."""
    console.log("Building DAG of jobs...")
    console.log(event="run_info", stats={"decode": 2, "check": 1, "all": 1, "total": 4})
    for jobid, rule, seconds in ((1, "decode", 60.0), (2, "decode", 70.0), (3, "check", 5.0)):
        console.job(jobid, rule, seconds)
        console.log(event="job_finished", job_id=jobid)
        console.log(event="progress", done=jobid, total=4)
    console.log(event="job_info", jobid=0, rule_name="all", rule_msg=None, shellcmd=None, log=[])
    console.log(event="job_finished", job_id=0)
    console.log(event="progress", done=4, total=4)
    assert [" ".join(line.split()) for line in console.lines] == [
        "decode: 1 60 s 1/3, about 2 min 00 s left",
        "decode: 2 70 s 2/3, about 65 s left",
        "check: 3 5.0 s 3/3",
    ]
    assert console.finished == 1


def test_a_long_job_is_named_with_the_last_line_of_its_log(console: Console, tmp_path: Path) -> None:
    """Who waits sees that it goes on."""
    (tmp_path / "job.log").write_text("decode sdpa S=128: 1 of 3 processes\n\n")
    console.job(1, "decode", 45.0, str(tmp_path / "job.log"))
    console.handler.still()
    assert console.lines == ["  decode: 1, 45 s so far: decode sdpa S=128: 1 of 3 processes"]


def test_a_failed_job_shows_the_end_of_its_log(console: Console, tmp_path: Path) -> None:
    """A traceback is shown, and no more of a long log than its end."""
    log = tmp_path / "job.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    console.job(1, "decode", 2.0, str(log))
    console.log("Error in rule decode", logging.ERROR, event="job_error", jobid=1, rule_name="decode", log=[str(log)])
    assert console.lines[0] == f"FAILED: decode: 1, after 2.0 s; its log: {log}"
    assert console.lines[1:] == [f"  | line {number}" for number in range(85, 100)]


def test_what_a_job_has_said_itself_is_not_repeated(console: Console, tmp_path: Path) -> None:
    """An error of one line is at the console already."""
    log = tmp_path / "job.log"
    log.write_text("warming up\nerror: a full disk\n")
    console.job(1, "decode", 2.0, str(log))
    console.log("Error in rule decode", logging.ERROR, event="job_error", jobid=1, rule_name="decode", log=[str(log)])
    assert len(console.lines) == 1


def test_errors_and_warnings_of_snakemake_stay(console: Console) -> None:
    """Only chatter is left out."""
    console.log("Select jobs to execute...")
    console.log("MissingInputException in rule x", logging.ERROR, event="error", exception="x")
    console.log("Exiting because a job execution failed. Look below for error messages", logging.ERROR)
    console.log("RuleException:\nCalledProcessError in file x.smk, line 13:\nCommand y", logging.ERROR, event="error")
    console.log("Falling back to greedy scheduler", logging.WARNING)
    assert console.lines == ["MissingInputException in rule x", "Falling back to greedy scheduler"]
    assert console.finished == 0


def test_a_misspelt_target_is_one_line_with_what_to_do(console: Console) -> None:
    """Snakemake speaks of input functions, of which a user knows nothing."""
    said = "No rule to produce results/gate_reprot.md (if you use input functions make sure that they don't raise)."
    console.log(said, logging.ERROR)
    (line,) = console.lines
    assert line.startswith(
        "error: results/gate_reprot.md: no rule makes it, expected one of the targets that README.md"
    )


def test_nothing_to_do_ends_with_the_verdicts_too(console: Console) -> None:
    """Who asks again is told again."""
    console.log("Nothing to be done (all requested files are present and up to date).")
    assert console.lines == ["nothing to do: every result is there and up to date"] and console.finished == 1


def test_it_takes_the_place_of_snakemakes_own_console_only() -> None:
    """A plugin that somebody chose stays."""
    logger = logging.getLogger("of a test")
    own, other = logging.StreamHandler(), logging.StreamHandler()
    own.name = "DefaultStreamHandler"
    logger.addHandler(other)
    take_over(logger, lambda: None)
    assert logger.handlers == [other]
    logger.addHandler(own)
    take_over(logger, lambda: None)
    assert logger.handlers[0] is other and isinstance(logger.handlers[1], Progress)
    logger.handlers.clear()


def test_a_report_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    """The run has ended, and its last lines are no traceback."""
    (tmp_path / "gate.json").write_text("{")
    first, last = verdicts(Layout(tmp_path))
    assert first.startswith("error: ") and "gate.json" in first
    assert last == f"report: {tmp_path / 'gate_report.html'}"


def test_a_page_beside_the_report_says_where_it_is_and_what_it_lacks(tmp_path: Path) -> None:
    """Who asks for a table alone is not left to find out that nothing was measured."""
    layout = Layout(tmp_path)
    layout.roofline_page.write_text("# Kernels\n\n**NOT MEASURED**: unavailable; run elsewhere.\n\nmore\n")
    layout.curve_page.write_text("# Cores\n\n| S |\n")
    asked = {str(layout.roofline_page), str(layout.curve_page), "results/core/fused.parquet"}
    assert list(pages(layout, asked)) == [
        f"{layout.roofline_page}: NOT MEASURED: unavailable; run elsewhere.",
        f"page: {layout.roofline_page}",
        f"page: {layout.curve_page}",
    ]
    assert list(pages(layout, ())) == []


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (10.2, "10 s"), (119.4, "119 s"), (125, "2 min 05 s"), (3599.9, "60 min 00 s")],
)
def test_durations(seconds: float, said: str) -> None:
    """Tenths where they matter, minutes where seconds do not."""
    assert duration(seconds) == said
