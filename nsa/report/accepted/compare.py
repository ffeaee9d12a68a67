"""What changed since the accepted run: per backend and S, and per kernel check, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from nsa.config import Config, GateSettings
from nsa.errors import RecordError
from nsa.records.facts import TimedFacts
from nsa.records.shapes import GridShape
from nsa.records.words import CONTROLS
from nsa.report.accepted.keep import (
    CHECK,
    DECODE,
    SOFTWARE,
    AcceptedRun,
    Timed,
    file_of,
    identity_of,
    process_medians,
    read_accepted,
    setting_differs,
    software,
    what_is_timed,
)
from nsa.report.accepted.relative import (
    control_words,
    geometric_mean,
    has_control,
    relative_change,
    shape_times,
    step_times,
    typical,
)
from nsa.report.analysis.read import Record, cell_name, check_name
from nsa.report.analysis.stats import Change, Estimate, each_of
from nsa.report.verdict.checks import blocking
from nsa.report.verdict.gates import outcome_words
from nsa.report.verdict.run import Run

NONE, COMPARED, NOT_COMPARABLE, INVALID = "none", "compared", "not comparable", "invalid"
NO_CONTROL = "no control was timed beside it"
GEOMEAN, WORST = "geometric mean", "worst shape"


@dataclass(frozen=True)
class Line:
    """One comparison: a decode cell's ms_total, or a kernel check's time over all shapes or on its worst one."""

    kind: str  # decode or check
    backend: str
    where: str  # "S = 128", "geometric mean of 32 shapes", "worst shape: N=…"
    verdict: str  # slower, faster, same, too few replicates or not comparable
    reason: str | None = None  # why it is not comparable
    ratio: Estimate | None = None  # of today's time over the accepted one, relative to the control on a GPU
    before_ms: float | None = None
    now_ms: float | None = None
    regression: bool = False  # slower, and the whole interval lies beyond the margin


@dataclass(frozen=True)
class Comparison:
    """A run beside the accepted run of its GPU model.

    Attributes:
        status: none (no accepted run), compared, not comparable (another GPU model) or invalid (its file is broken).
        reason: one sentence.
        accepted: the file of the accepted run.
        decides: whether a regression fails `nsa check`; times of a CPU decide nothing.
        confidence: at which all intervals hold together.
        regressions: a clause for each confirmed slowdown beyond the margin.
        since: the software that differs, "torch 2.11 → 2.13".
    """

    status: str
    reason: str
    margin: float
    confidence: float
    accepted: str | None = None
    decides: bool = False
    lines: tuple[Line, ...] = ()
    regressions: tuple[str, ...] = ()
    since: tuple[str, ...] = ()


def compare(run: Run, folder: Path, config: Config) -> Comparison:
    """Compare a run with the accepted run of its GPU model.

    Args:
        folder: where `nsa accept` keeps the accepted runs; it need not exist.
        config: the run's configuration: what is timed must be the same. Its gates have the margin and the confidence.
    """
    gates, device = config.gates, run.device
    empty = Comparison(NONE, "", gates.regression.margin, gates.confidence)
    if device is None:
        return replace(empty, reason="Nothing ran, so nothing is compared.")
    model = device.name
    path = file_of(folder, model, device.kind)
    if not path.exists():
        others = ", ".join(sorted(other.stem for other in folder.glob("*.parquet")))
        if others:
            reason = f"Not comparable: another GPU. No run of {model} was accepted ({path.name}), only {others}."
            return replace(empty, status=NOT_COMPARABLE, reason=reason)
        keep = f"python -m nsa accept{' --cpu' if device.kind == 'cpu' else ''}"
        return replace(empty, reason=f"There is no accepted run of {model}; `{keep}` keeps one.")
    try:
        accepted = read_accepted(path)
    except RecordError as error:
        return replace(empty, status=INVALID, reason=f"The accepted run is INVALID: {error}.", accepted=str(path))
    if accepted.header.model != model:
        reason = f"Not comparable: another GPU. {path} is of {accepted.header.model}, and this run is of {model}."
        return replace(empty, status=NOT_COMPARABLE, reason=reason, accepted=str(path))
    if device.kind == "cuda" and not has_control(accepted.times):
        reason = (
            f"Not comparable: {path} was accepted when runs had no control, without which a slower kernel and a slower "
            "machine look alike; `python -m nsa accept` keeps a run anew."
        )
        return replace(empty, status=NOT_COMPARABLE, reason=reason, accepted=str(path))
    now = process_medians(run)
    lines = compared(run, accepted, now, what_is_timed(run, config), gates)
    decides = device.kind == "cuda"
    return replace(
        empty,
        status=COMPARED,
        reason=summary(lines, accepted, control_words(accepted.times, now) if decides else ""),
        accepted=str(path),
        decides=decides,
        lines=lines,
        regressions=tuple(
            regression_words(line, gates.regression.margin, decides) for line in lines if line.regression
        ),
        since=differences(accepted.header.software, software(run)),
    )


def compared(run: Run, accepted: AcceptedRun, now: pd.DataFrame, timed: Timed, gates: GateSettings) -> tuple[Line, ...]:
    """A line for each decode cell and two for each kernel check, of today's run or of the accepted one.

    Args:
        now: the run's process_medians.
        timed: what the run timed, see what_is_timed.
    """
    then, workloads = accepted.times, CONTROLS if accepted.header.device == "cuda" else ()
    steps = [step_times(times) for times in (then, now)]
    fixed = [{name: step_times(times, name) for name in workloads} for times in (then, now)]
    cells, kernels = list(dict.fromkeys([*steps[1], *steps[0]])), check_keys(run, then)
    share = each_of(max(1, len(cells) + 2 * len(kernels)), gates.confidence)  # all lines hold together
    margin, lines = gates.regression.margin, []
    for backend, S in cells:
        before, after = (times.get((backend, S), pd.Series(dtype=float)) for times in steps)
        name, where = cell_name(backend, S), f"S = {S}"
        reason = refusal(run, accepted, name, len(before) > 0) or config_differs(DECODE, accepted, timed)
        if not all((backend, S) in each for one in fixed for each in one.values()):
            reason = reason or NO_CONTROL
        if reason:
            lines.append(Line(DECODE, backend, where, NOT_COMPARABLE, reason))
        elif same_record(run.records[name], accepted):
            lines.append(accepted_itself(DECODE, backend, where, before))
        else:
            control_of = [{name: each[backend, S] for name, each in one.items()} for one in fixed]
            change = relative_change(before, after, control_of, share)
            lines.append(line(DECODE, backend, where, change, before, after, margin))
    for backend in kernels:
        shapes = [shape_times(times, backend) for times in (then, now)]
        control = [{name: shape_times(times, backend, name) for name in workloads} for times in (then, now)]
        name = check_name(backend)
        reason = refusal(run, accepted, name, len(shapes[0]) > 0) or config_differs(CHECK, accepted, timed)
        other = len(set(shapes[0].columns) ^ set(shapes[1].columns))
        beside = zip(shapes, control, strict=True)
        if any(set(each.columns) != set(own.columns) for own, one in beside for each in one.values()):
            reason = reason or NO_CONTROL
        if reason or other:
            reason = reason or f"other config: {other} shapes are in one of the two grids only"
            lines.append(Line(CHECK, backend, GEOMEAN, NOT_COMPARABLE, reason))
        elif same_record(run.records[name], accepted):
            lines.append(accepted_itself(CHECK, backend, GEOMEAN, geometric_mean(shapes[0])))
        else:
            lines += kernel_lines(backend, shapes, control, share, margin)
    return tuple(lines)


def check_keys(run: Run, then: pd.DataFrame) -> list[str]:
    """The backends whose kernel was timed on a grid today or in the accepted run."""
    accepted = dict.fromkeys(then[then["kind"] == CHECK]["backend"])
    today = [name for name, record in run.kernel.items() if record.ok and record.on_cuda]
    return list(dict.fromkeys([*today, *accepted]))


def refusal(run: Run, accepted: AcceptedRun, name: str, known: bool) -> str | None:
    """Why a record and what was accepted of it cannot be compared; None where they can, as far as the record says."""
    record = run.records.get(name)
    if record is None:
        return "it is not measured any more"
    if not record.ok:
        return f"today it is {outcome_words(record)}"
    if not known:
        return "it is not in the accepted run"
    if same_record(record, accepted):
        return None
    blocked = [check.name for check in blocking(run.checks, name)]
    return f"blocked by {', '.join(blocked)}" if blocked else None


def kernel_lines(
    backend: str,
    shapes: Sequence[pd.DataFrame],
    control: Sequence[Mapping[str, pd.DataFrame]],
    share: float,
    margin: float,
) -> list[Line]:
    """The geometric mean over the shapes, and the shape that became slower by most.

    Args:
        shapes: the kernel's times in the accepted run and in today's, see shape_times.
        control: those of the control beside it, likewise.
    """
    before, after = shapes
    mean = (geometric_mean(before), geometric_mean(after))
    fixed = [{name: geometric_mean(each) for name, each in one.items()} for one in control]
    change = relative_change(*mean, fixed, share)
    found = [line(CHECK, backend, f"{GEOMEAN} of {before.shape[1]} shapes", change, *mean, margin)]
    each = each_of(before.shape[1], share)  # the worst of many: its interval must hold for all of them

    def changed(shape: str) -> Change:
        fixed = [{name: times[shape].dropna() for name, times in one.items()} for one in control]
        return relative_change(before[shape].dropna(), after[shape].dropna(), fixed, each)

    changes = {shape: changed(shape) for shape in before.columns}
    worst = max(changes, key=lambda shape: changes[shape].ratio.value)
    where = f"{WORST}: {GridShape(*map(int, worst))}"
    return [*found, line(CHECK, backend, where, changes[worst], before[worst], after[worst], margin)]


def line(
    kind: str,
    backend: str,
    where: str,
    change: Change,
    before: pd.Series[float],
    after: pd.Series[float],
    margin: float,
) -> Line:
    """A comparison as its line."""
    beyond = change.verdict == "slower" and change.ratio.low > 1 + margin
    return Line(kind, backend, where, change.verdict, None, change.ratio, typical(before), typical(after), beyond)


def accepted_itself(kind: str, backend: str, where: str, times: pd.Series[float]) -> Line:
    """The line of a record that is the accepted one: the same by definition."""
    return Line(kind, backend, where, "same", "it is the accepted record", None, typical(times), typical(times))


def same_record(record: Record[TimedFacts], accepted: AcceptedRun) -> bool:
    """Whether today's record is the accepted one itself."""
    own = identity_of(record)
    return own is not None and own == accepted.header.records.get(record.name)


def config_differs(kind: str, accepted: AcceptedRun, timed: Timed) -> str | None:
    """Why another thing was timed then, the first key that differs named; None where it was the same."""
    return setting_differs(kind, accepted.header.timed.get(kind, {}), timed[kind])


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The software whose version differs."""
    return tuple(f"{key} {before.get(key)} → {now.get(key)}" for key in SOFTWARE if before.get(key) != now.get(key))


def regression_words(found: Line, margin: float, relative: bool) -> str:
    """A confirmed slowdown as a clause."""
    assert found.ratio is not None
    ratio, what = found.ratio, "decode" if found.kind == DECODE else "kernel check"
    shown = f"{percent_change(ratio.value)} [{percent_change(ratio.low)}, {percent_change(ratio.high)}]"
    than = " relative to the control" if relative else ""
    return f"{found.backend} {what}, {found.where}: slower by {shown}{than}, beyond the margin of {100 * margin:g} %"


def percent_change(ratio: float) -> str:
    """A ratio of times as a change, +5.2 %."""
    return f"{100 * (ratio - 1):+.1f} %"


def summary(lines: Sequence[Line], accepted: AcceptedRun, control: str) -> str:
    """How many lines say what, in one sentence, and one on the control, or on the CPU that has none."""
    order = ("slower", "faster", "same", "too few replicates", NOT_COMPARABLE)
    counts = {verdict: sum(found.verdict == verdict for found in lines) for verdict in order}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing to compare"
    header = accepted.header
    origin = f"accepted {header.accepted_utc}, commit {(header.git_commit or 'unknown')[:12]}"
    return f"{said} ({accepted.path}, {origin}). {control or 'Times of a CPU decide nothing'}."
