"""GPU tests are skipped, with the reason, where torch sees no CUDA device; tables of the tests close the run.

With pytest-xdist (`--dist loadfile`), tests of one module stay in one process, as they share what took long to make,
and what takes longest starts first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

ShowRow = Callable[[str, Sequence[str], Sequence[str]], None]
TABLES: dict[str, list[Sequence[str]]] = {}  # what the tests showed, here or in a process of xdist's
ROW = "row of a table"  # the name of a test's property
WIDTH = 150
LONGEST = tuple(  # of the modules, which takes longest first; the second waits for nothing that the first makes
    f"tests/{name}.py"
    for name in (
        "workflow/test_fixes",
        "kernels/test_interpreter",
        "workflow/test_kill",
        "kernels/fused/test_operator",
        "workflow/test_rerun",
        "kernels/cuda/test_operator",
        "wrong/test_honest",
        "workflow/test_faults",
        "workflow/test_doctor",
        "bench/test_workers",
        "bench/check/test_isolation",
        "wrong/test_cheats",
        "report/accepted/test_regressions",
        "wrong/test_layers",
        "workflow/test_accept",
        "workflow/test_outside",
        "workflow/test_core",
        "workflow/test_roofline",
        "wrong/test_right",
        "workflow/test_touch",
        "workflow/test_run",
        "workflow/test_several_gpus",
    )
)
torch.set_num_threads(1)  # small kernels gain nothing from more, and waiting threads spin


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist start the modules in the order that is chosen here."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; say what comes first."""
    module = {item: item.nodeid.partition("::")[0] for item in items}
    items.sort(key=lambda item: LONGEST.index(module[item]) if module[item] in LONGEST else len(LONGEST))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture
def show_row(request: pytest.FixtureRequest) -> ShowRow:
    """Add a row to a table that is printed after the run: title, header, row."""

    def show(title: str, header: Sequence[str], row: Sequence[str]) -> None:
        request.node.user_properties.append((ROW, (title, header, row)))

    return show


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect the rows of a test that has ended."""
    if report.when == "teardown":
        for name, value in report.user_properties:
            if name == ROW:
                title, header, row = value
                TABLES.setdefault(title, [header]).append(row)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables."""
    for title, rows in TABLES.items():
        terminalreporter.section(title)
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            terminalreporter.write_line(line.rstrip()[:WIDTH])
