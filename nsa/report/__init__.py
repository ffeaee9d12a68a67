"""From the records to the two verdicts: statistics, automatic checks, gates, tables, figures and the gate report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsa.layout import RESULTS

if TYPE_CHECKING:
    from nsa.report.analysis.frames import Frames


def load(results: str | Path = RESULTS) -> Frames:
    """All records of a results folder as tidy pandas frames, see nsa.report.analysis.frames.Frames.

    Raises:
        RecordError: there is no record.
    """
    from nsa.report.analysis import frames  # here: most modules of this package need no pandas

    return frames.load(Path(results))
