"""A run's records together: of one model, of the grid that was asked for, in the configuration's order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import GPU

if TYPE_CHECKING:
    from tests.report.conftest import Lab

A100 = GPU.model_copy(update={"name": "NVIDIA A100"})


def test_another_model_is_refused_by_name(lab: Lab) -> None:
    """A record of another model than the environment's is INVALID; one of another card is not."""
    foreign = {"facts": {"device": A100}, "said": {"device": A100}}
    cells = [lab.cell("cuda", 2048, **foreign, alter=({"device": "cuda"}, {"device_name": A100.name}))]
    run = lab.run([*cells, lab.cell("sdpa", 2048)], [lab.check("cuda", **foreign), lab.check("triton")])
    assert {name: record.status for name, record in run.records.items()} == {
        "sdpa/S2048": "ok",
        "cuda/S2048": "invalid",
        "check_cuda": "invalid",
        "check_triton": "ok",
    }
    reason = "cuda/S2048 was measured on NVIDIA A100, and this run is of NVIDIA Synthetic"
    assert run.records["cuda/S2048"].reason == reason
    assert len(run.records["cuda/S2048"].rows) == 0
    assert run.device == GPU


@pytest.mark.parametrize(
    ("column", "value", "facts"),
    [("context", 2048, {}), ("groups", 2, {}), ("sel_block", 32, {}), ("dtype", "float16", {"dtype": "float16"})],
)
def test_a_check_of_another_grid_is_invalid(lab: Lab, column: str, value: int | str, facts: dict[str, object]) -> None:
    """A kernel check whose rows are of another context, dtype or number of groups is no check of the grid."""
    path = lab.check("cuda", facts=facts, alter=({"sel_block": 64}, {column: value}))
    record = lab.run([], [path]).kernel["cuda"]
    assert record.status == "invalid"
    assert f"check_cuda: {column} is {value}, and the settings ask for" in str(record.reason)


def test_cells_are_in_the_order_of_the_backends(lab: Lab) -> None:
    """The configuration's order, the baseline first, then S; a backend that it does not have comes last."""
    cells = [lab.cell("triton", 128), lab.cell("other", 128), lab.cell("sdpa", 2048), lab.cell("sdpa", 128)]
    assert [each.cell.name for each in lab.run(cells).cells] == ["sdpa/S128", "sdpa/S2048", "triton/S128", "other/S128"]


def test_rows_of_another_run_as_a_replicate_decide_nothing(lab: Lab) -> None:
    """A GO of mixed rows is none: the cells are INVALID, and INVALID blocks."""
    cells = [lab.cell("sdpa", S, alter=({"process": 1}, {"device_uuid": "GPU-1"})) for S in (128, 2048)]
    run = lab.run(cells)
    assert run.invest.verdict == "NOT MEASURED"
    assert "sdpa is INVALID" in run.invest.reason and "device_uuid is 'GPU-1' in process 1" in run.invest.reason
    assert {check.name for check in run.checks if check.blocks} == {"record_invalid"}
