"""What every run measured on one GPU model, over the commits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nsa.cli.app import app
from nsa.layout import ACCEPTED, HISTORY


@app.command()
def history(
    gpu: Annotated[str | None, typer.Option(help="A GPU model, or a part of its name. Default: all.")] = None,
    backend: Annotated[str | None, typer.Option(help="Show this backend alone.")] = None,
    last: Annotated[int, typer.Option(min=1, help="Measurements of each cell and check, beside accepted ones.")] = 10,
    csv: Annotated[Path | None, typer.Option(help="Write a row for each of them here, too.")] = None,
    folder: Annotated[Path, typer.Option(help="The folder of histories, one file for each GPU model.")] = HISTORY,
    accepted: Annotated[Path, typer.Option(help="The folder of accepted runs.")] = ACCEPTED,
) -> None:
    """Say what each cell and check took over the commits, with intervals, relative to the accepted run or the first."""
    import pandas as pd

    from nsa.cli.destination import writable
    from nsa.records import files
    from nsa.report.history import store
    from nsa.report.history.series import series
    from nsa.report.page.history import CSV_COLUMNS, csv_rows, history_lines

    target = writable(csv) if csv is not None else None
    rows = []
    for place, (model, kept) in enumerate(store.of_models(folder, gpu, backend)):
        found = series(store.grown(kept, (), store.of_the_accepted(accepted, model, backend)), last)
        print("\n".join([*([""] if place else []), *history_lines(model, found)]))
        rows += list(csv_rows(model, found))
    if target is not None:
        files.write_text(target, pd.DataFrame(rows, columns=list(CSV_COLUMNS)).to_csv(index=False, float_format="%.9g"))
