"""The file of the history: one small Parquet for each GPU model, beside the results, that only ever grows.

It is no output of a rule, which Snakemake would delete before it runs the rule again, and no input of one: what it
holds makes nothing run. It lies outside of results/, which may be deleted, and git ignores it: a tracked file that
every run changes would make every later run one of a tree with changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa

from nsa.config import Config
from nsa.errors import RecordError
from nsa.machine.locks import folder_lock
from nsa.records import parquet
from nsa.records.made import HistoryHeader
from nsa.report.accepted.keep import file_of, read_accepted, slug
from nsa.report.history.measurement import SCHEMA, Measurement, of_accepted, of_run
from nsa.report.verdict.run import Run


def read(path: Path) -> tuple[str, list[Measurement]]:
    """The GPU model of a history, and every measurement in the order in which they were added.

    Raises:
        RecordError: the file is missing, broken, no history, or one of another version of this project.
    """
    try:
        table, header = parquet.read(path, HistoryHeader, SCHEMA)
    except RecordError as error:
        what = str(error).rpartition(";")[0]
        raise RecordError(f"{what}; move it away, and the next report begins a new one") from error
    rows = table.select(SCHEMA.names).to_pylist()
    lists = [name for name in SCHEMA.names if pa.types.is_list(SCHEMA.field(name).type)]
    return header.model, [Measurement(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows]


def grown(
    kept: Sequence[Measurement], run: Iterable[Measurement], accepted: Iterable[Measurement]
) -> list[Measurement]:
    """A history with what a run and the accepted run measured: a record that it has already is not added again.

    Args:
        run: the records of one report; those that are new share a `run_utc`.
        accepted: those of the accepted run, likewise; all of them are marked as accepted.
    """
    found = {each.digest: each for each in kept}
    for batch in (list(run), list(accepted)):
        new = [each for each in batch if each.digest not in found]
        last = max((each.measured_utc for each in new), default="")
        found |= {each.digest: replace(each, run_utc=last) for each in new}
        found |= {each.digest: replace(found[each.digest], accepted=True) for each in batch if each.accepted}
    return list(found.values())


def of_models(folder: Path, gpu: str | None = None, backend: str | None = None) -> list[tuple[str, list[Measurement]]]:
    """The histories in a folder, each with its GPU model.

    Args:
        gpu: a part of the model's name; None for all models.
        backend: whose measurements alone; None for all backends.

    Raises:
        RecordError: there is none, none of this model or backend, or one that cannot be read.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise RecordError(f"{folder}: no run on a GPU was kept there yet; run `snakemake` on a machine with one")
    wanted = [path for path in paths if gpu is None or slug(gpu) in path.stem]
    if not wanted:
        known = ", ".join(path.stem for path in paths)
        raise RecordError(f"--gpu: got {gpu!r}, expected a model of a history in {folder}, or a part of one: {known}")
    every = [read(path) for path in wanted]
    known = ", ".join(sorted({each.backend for _, found in every for each in found}))
    found = [(model, [each for each in found if backend in (None, each.backend)]) for model, found in every]
    if not any(kept for _, kept in found):
        raise RecordError(f"--backend: got {backend!r}, expected one that was measured: {known}")
    return [(model, kept) for model, kept in found if kept]


def of_the_accepted(folder: Path, model: str, backend: str | None = None) -> list[Measurement]:
    """The measurements of the accepted run of a GPU model; none where there is none, or none that can be read.

    A broken one is what the comparison with it is about, in the report and in `nsa check`.

    Args:
        folder: where the accepted runs lie.
        backend: as of of_models.
    """
    try:
        accepted = read_accepted(file_of(folder, model, "cuda"))
    except RecordError:
        return []
    found = of_accepted(accepted) if accepted.header.model == model else []
    return [each for each in found if backend in (None, each.backend)]


def add(folder: Path, run: Run, accepted: Path, config: Config) -> tuple[str, list[Measurement]] | None:
    """Add a run to the history of its GPU model, unless it is there, and return the whole; None of a run without a GPU.

    Args:
        folder: where the histories lie; it is made where it is missing.
        accepted: the folder of accepted runs.

    Raises:
        RecordError: the file cannot be read, and is left as it is; or the folder cannot be written.
    """
    device, found = run.device, of_run(run, config)
    if device is None or not found:
        return None
    path = file_of(folder, device.name, device.kind)
    with folder_lock(folder):  # runs in other results folders add to it, too
        model, kept = read(path) if path.exists() else (device.name, [])
        if model != device.name:
            raise RecordError(f"{path}: is of {model}, and this run is of {device.name}; move it away")
        whole = grown(kept, found, of_the_accepted(accepted, model))
        if whole != kept:
            table = pa.Table.from_pylist([asdict(each) for each in whole], schema=SCHEMA)
            parquet.write_table(path, table, HistoryHeader(model=model))
    return model, whole
