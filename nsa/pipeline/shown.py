"""Whether the report, or a summary, is of the records that are there: by their content, as a copy has other dates."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from nsa.config import Config
from nsa.layout import Layout
from nsa.records import files, parquet
from nsa.records.made import SummaryHeader
from nsa.report.accepted.keep import identity_of
from nsa.report.accepted.reported import KEY
from nsa.report.analysis.core import read_core
from nsa.report.analysis.read import read_cell, read_check
from nsa.report.analysis.summary import collect


def not_shown(layout: Layout, config: Config) -> Iterator[Path]:
    """The records that were measured again since the report was made; one that cannot be read is none of them.

    Raises:
        RecordError: gate.json cannot be read.
    """
    then = files.read_json(layout.gate).get(KEY)
    shown = then if isinstance(then, dict) else {}
    paths = {
        **{layout.cell(backend, S): read_cell for backend in config.backends for S in config.contexts},
        **{layout.check(backend): read_check for backend in config.selecting},
        **{layout.core(backend): read_core for backend in config.coring},
    }
    for path, read in paths.items():
        record = read(path)
        identity = identity_of(record)
        if identity is not None and shown.get(record.name) != identity.model_dump(mode="json"):
            yield path


def is_of(summary: Path, header: SummaryHeader, cells: list[Path]) -> bool:
    """Whether a summary holds what would be made of these cells; those of its configuration, where all are there.

    Raises:
        RecordError: the summary cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        now = Path(folder) / summary.name
        collect(cells, now, header.confidence, header.stamp)
        return parquet.read_table(now).equals(parquet.read_table(summary))
