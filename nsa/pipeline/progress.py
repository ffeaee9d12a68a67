"""The console of a run: a line for each job with its duration and what is left, and the verdicts at the end.

Snakemake's own console has nine lines for each job. Its log file (.snakemake/log) keeps them, and `--verbose` or
`--printshellcmds` brings them back.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from nsa.errors import NsaError
from nsa.layout import Layout
from nsa.machine.process import INTERRUPTED

SNAKEMAKES = "DefaultStreamHandler"  # the name of Snakemake's own console
NOTHING_TO_DO = "Nothing to be done"
REDUNDANT = ("Exiting because a job execution failed", "RuleException:\nCalledProcessError")  # beside the job's lines
NO_RULE = re.compile(r"No rule to produce (\S+)(?: \(if you use input functions.*)?\s*$")
QUIET_S = 30.0  # after which a job that is still at work is named
TAIL = 15  # of a failed job's log
WIDTH = 34  # of what a job is called


@dataclass
class Job:
    """A job that has started."""

    rule: str
    name: str
    log: tuple[Path, ...]
    since: float

    @property
    def seconds(self) -> float:
        """How long it has taken until now."""
        return time.monotonic() - self.since


class Progress(logging.Handler):
    """Receives what Snakemake logs, and says what a user wants to know of it.

    Args:
        stream: where to; no colour and no cursor movement, so that a pipe and a terminal show the same.
        finish: called when all is done, or nothing was to do.
    """

    def __init__(self, stream: TextIO, finish: Callable[[], None]) -> None:
        super().__init__()
        self._stream, self._finish = stream, finish
        self._jobs: dict[int, Job] = {}
        self._planned: Counter[str] = Counter()
        self._took: dict[str, list[float]] = {}
        self._spoke = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Say what there is to say of one record."""
        said = record.__dict__
        match str(said.get("event")):
            case "run_info":
                self._planned = Counter({rule: count for rule, count in said["stats"].items() if rule != "total"})
            case "job_info" if said["rule_msg"] or said["shellcmd"]:
                name = said["rule_msg"] or said["rule_name"]
                log = tuple(map(Path, said["log"]))
                self._jobs[said["jobid"]] = Job(said["rule_name"], name, log, time.monotonic())
            case "job_finished" if said["job_id"] in self._jobs:
                self._ended(self._jobs.pop(said["job_id"]))
            case "job_error":
                self._failed(said["jobid"], said["rule_name"], tuple(map(Path, said["log"])))
            case "progress" if said["done"] == said["total"]:
                self._finish()
            case "None" | "error":
                self._message(record)

    def watch(self) -> None:
        """Name the jobs at work whenever nothing was said for a while, until this process ends."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            if time.monotonic() - self._spoke > QUIET_S:
                self.still()

    def still(self) -> None:
        """A line for each job at work: how long it has taken, and the last line of its log."""
        for job in list(self._jobs.values()):
            last = next(iter(tail(job.log, 1)), "")
            self._say(f"  {job.name}, {duration(job.seconds)} so far{f': {last}' if last else ''}")

    def _ended(self, job: Job) -> None:
        self._took.setdefault(job.rule, []).append(job.seconds)
        done, total = sum(map(len, self._took.values())), sum(self._planned.values()) - self._planned["all"]
        left = self._left()
        rest = f", about {duration(left)} left" if done < total and left >= 1 else ""
        self._say(f"{job.name:<{WIDTH}} {duration(job.seconds):>9}   {done}/{total}{rest}")

    def _left(self) -> float:
        """What the jobs that have not ended will take: as long as others of their rule, or of any rule."""
        every = [seconds for times in self._took.values() for seconds in times]
        mean = {rule: sum(times) / len(times) for rule, times in self._took.items()}
        open_ = {rule: count - len(self._took.get(rule, ())) for rule, count in self._planned.items() if rule != "all"}
        expected = sum(count * mean.get(rule, sum(every) / len(every)) for rule, count in open_.items())
        at_work = sum(min(job.seconds, mean.get(job.rule, 0.0)) for job in self._jobs.values())
        return max(0.0, expected - at_work) / max(1, len(self._jobs))

    def _failed(self, jobid: int, rule: str, log: tuple[Path, ...]) -> None:
        """The end of its log, unless that is the one line that the job has said here itself."""
        job = self._jobs.pop(jobid, None) or Job(rule, rule, log, time.monotonic())
        if INTERRUPTED.is_set():
            self._say(f"interrupted: {job.name}, after {duration(job.seconds)}; what has ended is kept")
            return
        self._say(f"FAILED: {job.name}, after {duration(job.seconds)}; its log: {', '.join(map(str, log)) or 'none'}")
        lines = list(tail(log, TAIL))
        if lines and not lines[-1].startswith("error: "):
            self._say("\n".join(f"  | {line}" for line in lines))

    def _message(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(NOTHING_TO_DO):
            self._say("nothing to do: every result is there and up to date")
            self._finish()
        elif target := NO_RULE.search(text):
            self._say(
                f"error: {target[1]}: no rule makes it, expected one of the targets that README.md, Commands, lists; "
                "correct the name"
            )
        elif record.levelno >= logging.WARNING and not text.startswith(REDUNDANT):
            self._say(text)

    def _say(self, text: str) -> None:
        self._spoke = time.monotonic()
        print(text, file=self._stream, flush=True)


def take_over(logger: logging.Logger, finish: Callable[[], None]) -> None:
    """Put this console in the place of Snakemake's own, where that is the one in use."""
    for handler in [handler for handler in logger.handlers if handler.name == SNAKEMAKES]:
        logger.removeHandler(handler)
        progress = Progress(sys.stderr, finish)
        progress.watch()
        logger.addHandler(progress)


def verdicts(layout: Layout) -> Iterator[str]:
    """The lines that close a run whose report was asked for."""
    from nsa.report.verdict import exit as verdict

    try:
        yield from verdict.read(layout.gate).lines
    except NsaError as error:
        yield f"error: {error}"
    yield f"report: {layout.html}"


def pages(layout: Layout, targets: Collection[str]) -> Iterator[str]:
    """The lines that close a run for each page beside the report that was asked for: where it is, and what it lacks."""
    for page in (layout.roofline_page, layout.paper_table, layout.curve_page):
        if str(page) in targets:
            lines = page.read_text().splitlines() if page.exists() else []
            lacks = dict.fromkeys(line.replace("**", "") for line in lines if line.startswith("**NOT MEASURED**"))
            yield from (f"{page}: {line}" for line in lacks)
            yield f"page: {page}"


def duration(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60:02d} s"


def tail(logs: tuple[Path, ...], count: int) -> Iterator[str]:
    """The last lines of what a job has logged; none of a log that cannot be read."""
    for log in logs:
        try:
            lines = log.read_text(errors="replace").splitlines()
        except OSError:
            continue
        yield from [line for line in lines if line.strip()][-count:]
