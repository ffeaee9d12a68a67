"""Every test of the kernel check has a CPU that stands in for a GPU."""

from __future__ import annotations

import pytest
from bench.check.simulated import simulate


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Tests on a GPU have that GPU."""
    if not request.node.get_closest_marker("gpu"):
        simulate(monkeypatch)
