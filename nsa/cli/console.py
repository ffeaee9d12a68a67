"""The guide's benchmark on the console: measure, print each context's line as it comes, keep it in the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from nsa import backends
from nsa.bench.decode.stage import measure
from nsa.bench.runner import Result
from nsa.cli.destination import writable
from nsa.config import BUILD, DecodeSettings, Flags, GateSettings
from nsa.kernels import registry
from nsa.kernels.cuda.build import EXTENSION
from nsa.kernels.extension import build
from nsa.layout import Layout
from nsa.machine.environment import probe
from nsa.machine.host import Artifact, Host
from nsa.records import files
from nsa.records.decode import DecodeFacts
from nsa.report.analysis.read import Cell, cell_name
from nsa.report.analysis.summary import CellSummary, summarise
from nsa.report.page.export import write_csv
from nsa.report.page.guide import DECODE_HEADER, decode_table_row


def bench(
    settings: DecodeSettings,
    contexts: Sequence[int],
    backend: str,
    device: str,
    flags: Flags,
    csv: Path | None,
) -> bool:
    """Measure one backend at every context (docs/guide.md), and say whether each gave figures.

    The CSV has every context that was measured, also when the rest is interrupted.

    Raises:
        BackendUnavailable: the backend cannot run here; nothing runs in its place.
        ConfigError: CUDA was asked for and is not there.
        RecordError: the CSV cannot be written; said before anything is measured.
        RequiredBuildFailed: NSA_SEL_CUDA_BUILD=1 asks for a build that fails.
    """
    target = None if csv is None else writable(csv)
    environment = probe()
    host = Host.of(device, flags, environment, artifacts(backend, flags))
    registry.require(backend, host.machine, flags)

    console, cells = Console(highlight=False, soft_wrap=True), list[CellSummary]()
    kind = host.device.kind
    if target is not None and target.exists():
        console.print(f"{csv} is there, and is replaced by what is measured now")
    console.print(f"{backend} on {kind} ({host.device.name}), {settings.dtype.of(kind)}")
    console.print(line(DECODE_HEADER))
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("")
        for S in contexts:
            progress.update(task, description=f"S = {S}: prefill, then {settings.iters} repetitions of each arm")
            result = measure(backend, S, settings, host, lambda said: progress.update(task, description=said))
            cells.append(summary(backend, S, result))
            console.print(line(decode_table_row(cells[-1])))
            if result.outcome.status != "ok":
                console.print(f"  {result.outcome.status}: {result.outcome.reason}; {result.outcome.fix}")
            if target is not None:
                write_csv(target, cells)
    if csv is not None:
        console.print(f"wrote {csv}; `python -m nsa summarize {csv}` says what it means")
    return all(cell.cell.status == "ok" for cell in cells)


def artifacts(backend: str, flags: Flags) -> dict[str, Artifact]:
    """What the backend's own stage left, if it has run; with NSA_SEL_CUDA_BUILD=1 the CUDA extension is built now."""
    layout, stage = Layout(), backends.spec(backend).stage
    if stage is None:
        return {}
    made = layout.artifact(stage.artifact)
    if backend == "cuda" and flags.on(BUILD):
        made = layout.bench_build  # the pipeline's own stays untouched
        build.require_built(EXTENSION, "require", build.build(EXTENSION, "require", made))
    return {backend: files.read_json(made)} if made.exists() else {}


def summary(backend: str, S: int, result: Result[DecodeFacts]) -> CellSummary:
    """The figures of one measured cell."""
    rows = pd.DataFrame(list(result.rows))
    cell = Cell(backend, cell_name(backend, S), result.outcome, result.device, rows=rows, S=S)
    return summarise([cell], GateSettings().confidence)[0]


def line(values: Sequence[str]) -> str:
    """One line of the console table."""
    return f"{values[0]:<10}" + "".join(f"{value:>12}" for value in values[1:])
