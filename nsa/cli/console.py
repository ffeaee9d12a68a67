"""The guide's benchmark on the console: measure, print each context's line as it comes, write the CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from nsa.bench.decode.stage import measure
from nsa.config import ARTIFACTS, DecodeSettings, Flags, GateSettings
from nsa.errors import RecordError
from nsa.kernels import registry
from nsa.kernels.cuda import build
from nsa.machine.environment import probe
from nsa.machine.host import Host
from nsa.records import files
from nsa.report.analysis.read import Cell
from nsa.report.analysis.summary import summarise_cells
from nsa.report.page.export import write_csv
from nsa.report.page.guide import DECODE_HEADER, decode_table_row


def bench(
    settings: DecodeSettings,
    contexts: Sequence[int],
    backend: str,
    device: str,
    flags: Flags,
    csv: Path | None,
) -> None:
    """Measure one backend at every context (guide, "Run the Decode Bench").

    Raises:
        BackendUnavailable: the backend cannot run here; nothing runs in its place.
        ConfigError: CUDA was asked for and is not there.
        RecordError: the CSV cannot be written; said before anything is measured.
    """
    environment = probe()
    host = Host.of(device, flags, environment, artifacts(backend, flags))
    registry.require(backend, host.machine, flags)
    if csv is not None and not csv.parent.is_dir():
        raise RecordError(f"{csv}: cannot be written (no folder {csv.parent}); expected an existing folder")

    console, rows = Console(), []
    console.print(f"{backend} on {host.device} ({host.device_name}), {settings.dtype[host.device]}", highlight=False)
    console.print(line(DECODE_HEADER), highlight=False)
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as progress:
        task = progress.add_task("")
        for S in contexts:
            progress.update(task, description=f"S = {S}: prefill, then {settings.iters} repetitions of each arm")
            found, facts = measure(backend, S, settings, host, lambda said: progress.update(task, description=said))
            row = summary_row(backend, S, found, facts)
            console.print(line(decode_table_row(row)), highlight=False)
            rows.append(row)
    if csv is not None:
        write_csv(csv, rows)
        console.print(f"wrote {csv}; `python -m nsa summarize {csv}` says what it means", highlight=False)


def artifacts(backend: str, flags: Flags) -> dict[str, dict[str, Any]]:
    """What the backend's own stage left, if it has run; with NSA_SEL_CUDA_BUILD=1 the CUDA extension is built now."""
    if backend == "cuda" and flags.cuda_build:
        return {"cuda": build.build("require", Path("results/.bench-build"))}  # the pipeline's own stays untouched
    record = Path("results", ARTIFACTS[backend]) if backend in ARTIFACTS else None
    return {backend: files.read_json(record)} if record is not None and record.exists() else {}


def summary_row(backend: str, S: int, found: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """One measured cell as a row of the summary table."""
    about = (facts["status"], facts.get("reason"), facts.get("fix"))
    cell = Cell(backend, *about, facts=facts, rows=pd.DataFrame(found), S=S)
    row: dict[str, Any] = summarise_cells([cell], GateSettings().confidence).to_pylist()[0]
    return row


def line(values: Sequence[str]) -> str:
    """One line of the console table."""
    return f"{values[0]:<10}" + "".join(f"{value:>12}" for value in values[1:])
