"""The roofline's figures from times that are known exactly, and the records that none can be made of."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from raced import FLOORS_US, H200, LARGE, OK, SETTINGS, SMALL, TODAY, Row, altered, write
from synthetic import GPU, OLD

from nsa.errors import ConfigError
from nsa.report.analysis.roofline import PUBLIC, RooflineReport, read_roofline, roofline
from nsa.settings import parse


def test_the_maths_by_hand(tmp_path: Path) -> None:
    """Times are medians, floors are bytes over the mean bandwidth, and ratios are of the same process."""
    found = roofline(read_roofline(write(tmp_path), TODAY), SETTINGS)
    assert found.bandwidths == (3.9e12, 4.1e12) * 3
    assert found.empty_us.value == pytest.approx(3.4, rel=1e-3)
    (small, large) = found.figures["cuda"]
    assert (small.shape, large.shape) == (SMALL, LARGE)
    for figure, time_us, packed_us in ((small, 7.0, 32.0), (large, 160.0, 1000.0)):
        assert figure.floor_us == pytest.approx(FLOORS_US[figure.shape])
        assert figure.time_us is not None and figure.time_us.value == pytest.approx(time_us, rel=1e-3)
        assert figure.time_us.low < time_us < figure.time_us.high
        assert figure.target_us == pytest.approx(1.10 * FLOORS_US[figure.shape] + 7.0)
        assert figure.excess_us == pytest.approx(time_us - (1.10 * FLOORS_US[figure.shape] + 7.0), abs=0.02)
        assert list(figure.over_packed) == pytest.approx([packed_us / time_us] * 3, rel=1e-3)  # paired: pace cancels
    assert list(small.over_public) == pytest.approx([11.4 / 7 / pace for pace in (0.99, 1.0, 1.01)], rel=1e-3)


def test_the_public_figures_are_whole() -> None:
    """The table of public kernels has 12 shapes for h of 4, 8 and 16, and Triton's but where none is known."""
    rows = list(csv.DictReader(PUBLIC.read_text().splitlines()))
    keys = [tuple(row[key] for key in ("among", "rows", "heads_per_group", "head_dim", "sel_count")) for row in rows]
    assert len(set(keys)) == len(keys) == 36 + 33
    best = {key[1:]: float(row["time_us"]) for key, row in zip(keys, rows, strict=True) if key[0] == "any"}
    for key, row in zip(keys, rows, strict=True):
        assert float(row["time_us"]) >= best[key[1:]]
        assert key[0] == "any" or "Triton" in row["kernel"]
    assert not any(key[:2] == ("triton", "64") and key[3:] == ("128", "16") for key in keys)
    assert all(row["machine"] == "NVIDIA H200" and row["date"] and row["method"] and row["source"] for row in rows)


Change = Callable[[Row], Row | None]


@pytest.mark.parametrize(
    ("facts", "rows", "named"),
    [
        ({"bandwidth_bytes_per_s": (4e12, math.nan)}, None, "bandwidth_bytes_per_s"),
        ({"bandwidth_bytes_per_s": ()}, None, "bandwidth_bytes_per_s"),
        ({"bandwidth_bytes_per_s": (4e12, 0.0)}, None, "bandwidth_bytes_per_s"),
        ({"backends": {"cuda": OK}}, None, "sdpa, the reference"),
        ({}, lambda row: {**row, "selected_bytes": None}, "selected_bytes"),
        ({}, lambda row: {**row, "value_ns": 0} if row.get("value_ns") else row, "value_ns"),
        ({}, lambda row: None if row["backend"] == "empty" else row, "empty was not timed"),
        ({}, lambda row: {**row, "dtype": "float16"} if row["process"] == 1 else row, "dtype is 'bfloat16' in some"),
        ({}, lambda row: {**row, "context": 64} if row["process"] == 1 else row, "context is 4096"),
        ({}, lambda row: {**row, "process": 5} if row["process"] == 1 else row, "process is [0, 2, 5]"),
        ({"device": GPU}, None, "device.name"),
    ],
)
def test_a_record_that_no_figure_can_be_made_of_is_invalid(
    facts: dict[str, object], rows: Change | None, named: str, tmp_path: Path
) -> None:
    """A NaN, a zero, a missing part and rows of another run are INVALID by name, and give no rows."""
    said = {"device": H200} if "device" in facts else {}
    record = read_roofline(write(tmp_path, altered(rows) if rows else None, facts, said), TODAY)
    assert record.status == "invalid" and named in str(record.reason)
    assert len(record.rows) == 0


def test_a_record_of_another_stage_is_invalid_and_one_of_yesterday_stale(tmp_path: Path) -> None:
    """A file of another stage, or of another stamp, says so."""
    assert "stage is 'check'" in str(read_roofline(write(tmp_path, said={"stage": "check"}), TODAY).reason)
    assert read_roofline(write(tmp_path), {"roofline": OLD}).status == "stale"


def test_the_settings_are_those_of_the_stamp() -> None:
    """Targets, tolerance and confidence are read from the stamp's settings; one that is missing is named."""
    targets: dict[str, dict[str, float]] = {name: target.model_dump() for name, target in SETTINGS.targets.items()}
    stamped: dict[str, object] = {"targets": targets, "correct": {"mae": 1e-3, "error_ratio": 2.0}, "confidence": 0.95}
    assert parse(RooflineReport, stamped, "roofline-report.json") == SETTINGS
    with pytest.raises(ConfigError, match=r"roofline-report\.json.*confidence"):
        parse(RooflineReport, {key: stamped[key] for key in ("targets", "correct")}, "roofline-report.json")
