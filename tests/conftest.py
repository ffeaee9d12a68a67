"""GPU tests are skipped, with the reason, where torch sees no CUDA device; tables of the tests close the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

ShowRow = Callable[[str, Sequence[str], Sequence[str]], None]
TABLES = pytest.StashKey[dict[str, list[Sequence[str]]]]()
WIDTH = 150


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def show_row(request: pytest.FixtureRequest) -> ShowRow:
    """Add a row to a table that is printed after the run: title, header, row."""

    def show(title: str, header: Sequence[str], row: Sequence[str]) -> None:
        request.config.stash.setdefault(TABLES, {}).setdefault(title, [header]).append(row)

    return show


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    for title, rows in terminalreporter.config.stash.get(TABLES, {}).items():
        terminalreporter.section(title)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line(line.rstrip()[:WIDTH])
