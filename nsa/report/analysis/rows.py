"""A record's table as pandas has it."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa


def to_frame(table: pa.Table) -> pd.DataFrame:
    """Its rows, with texts as Python has them: of tables as small as ours, Arrow's take twice as long to compare."""
    with pd.option_context("mode.string_storage", "python"):
        return table.to_pandas()
