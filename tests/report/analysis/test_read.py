"""Which records may be used: a stale, broken, incomplete or mixed one never gives rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from synthetic import CPU, GPU, OLD, STAMP, replicate

from nsa.errors import RecordError
from nsa.records import parquet, schemas
from nsa.report.analysis.read import read_cell, read_check

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def test_a_sound_cell_gives_its_rows_and_facts(lab: Lab) -> None:
    """A cell of today that is whole is ok, with its rows, its facts and where it comes from."""
    cell = read_cell(lab.cell("sdpa", 128), lab.stamps)
    assert (cell.backend, cell.S, cell.status, cell.reason, cell.name) == ("sdpa", 128, "ok", None, "sdpa/S128")
    assert (cell.device, cell.facts.geometry.S, cell.stamp) == (GPU, 128, STAMP)
    assert len(cell.rows) > 0


def test_only_an_ok_record_has_facts(lab: Lab) -> None:
    """Facts of a record that did not run are an error, not a guess."""
    cell = read_cell(lab.cell(status="oom"), lab.stamps)
    assert (cell.status, cell.reason, cell.fix) == ("oom", "sdpa is not here", "run on a GPU")
    with pytest.raises(ValueError, match="sdpa/S2048 is oom"):
        _ = cell.facts


@pytest.mark.parametrize("key", ["sources", "settings", "machine"])
def test_a_cell_of_another_stamp_is_stale_and_gives_no_rows(lab: Lab, key: str) -> None:
    """A record of other code, settings or another machine is stale, and says which of them it is."""
    cell = read_cell(lab.cell(said={"stamp": STAMP.model_copy(update={key: "old"})}), lab.stamps)
    assert (cell.status, len(cell.rows)) == ("stale", 0)
    assert f"{key} changed since it was measured" in str(cell.reason)


def test_a_cell_without_a_stamp_of_today_is_stale(lab: Lab) -> None:
    """What cannot be compared with today is stale."""
    assert read_cell(lab.cell(), {}).status == "stale"


def test_a_stale_status_hides_an_old_reason(lab: Lab) -> None:
    """A backend that was unavailable on another machine is stale here."""
    path = lab.cell(status="unavailable", said={"stamp": OLD})
    assert read_cell(path, lab.stamps).status == "stale"


def test_an_unreadable_cell_is_invalid_with_its_message(lab: Lab) -> None:
    """A file that is no Parquet is INVALID, and names what it is."""
    path = lab.cell()
    path.write_bytes(b"PAR1 but not really")
    cell = read_cell(path, lab.stamps)
    assert (cell.status, len(cell.rows), cell.device) == ("invalid", 0, None)
    assert "not a readable Parquet file" in str(cell.reason)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": {"arm": "all_without_sel"}}, "arm 'all_without_sel' has no graph/cold times"),
        ({"drop": {"arm": "win", "process": 1}}, "process 1 lacks graph/cold times of arm 'win'"),
        ({"drop": {"arm": "win", "process": 1, "emits": True}}, "process 1 lacks graph/cold times of arm 'win'"),
        ({"drop": {"mode": "graph"}}, "has no graph/cold times"),
        ({"alter": ({"process": 2}, {"value_ns": 0})}, "a value_ns is 0"),
        ({"alter": ({"process": 2, "mode": "eager"}, {"value_ns": -5})}, "a value_ns is -5"),
        ({"drop": {"process": 1}}, "process is [0, 2], expected the replicates [0, 1, 2]"),
        ({"alter": ({"process": 1}, {"process": 7})}, "process is [0, 2, 7], expected the replicates [0, 1, 2]"),
        ({"alter": ({"process": 1}, {"process": None})}, "process is null"),
        ({"facts": {"reads": None}}, "outcome.ok.facts.reads"),
    ],
)
def test_an_incomplete_cell_is_invalid(lab: Lab, change: dict[str, object], said: str) -> None:
    """A cell that lacks an arm, a process, a kind of step, a time or a fact is INVALID, and names it."""
    cell = read_cell(lab.cell(**change), lab.stamps)
    assert cell.status == "invalid"
    assert said in str(cell.reason)


@pytest.mark.parametrize(
    "other",
    [
        {"device_uuid": "GPU-1"},
        {"device_name": "NVIDIA A100"},
        {"device": "cpu"},
        {"dtype": "float16"},
        {"window": 4096},
        {"dim": 4096},
        {"S": 4096},
        {"phi": "mlp"},
        {"seed": 1},
        {"device_uuid": None},
        {"batch": None},
    ],
)
def test_rows_of_another_run_as_a_replicate_make_a_cell_invalid(lab: Lab, other: dict[str, object]) -> None:
    """Rows of another card, model, CPU, layer, dtype or seed under the number of a replicate are INVALID by name."""
    cell = read_cell(lab.cell(alter=({"process": 1}, other)), lab.stamps)
    ((column, value),) = other.items()
    assert cell.status == "invalid"
    assert f"{column} is {value!r} in process 1, expected" in str(cell.reason)


def test_a_cell_whose_facts_are_of_another_layer_is_invalid(lab: Lab) -> None:
    """The header's facts are held against the rows, whichever of them is wrong."""
    geometry = read_cell(lab.cell()).facts.geometry
    cell = read_cell(lab.cell(facts={"geometry": geometry.model_copy(update={"window": 256})}))
    assert "window is 512 in process 0, expected 256" in str(cell.reason)
    cell = read_cell(lab.cell(facts={"device": GPU.model_copy(update={"name": "NVIDIA A100"})}))
    assert "device.name is 'NVIDIA Synthetic', and the facts say 'NVIDIA A100'" in str(cell.reason)


def test_another_card_of_the_model_is_no_fault(lab: Lab) -> None:
    """A stage may run on another card of the model than the first one; the facts know which it was."""
    other = GPU.model_copy(update={"uuid": "GPU-1"})
    cell = read_cell(lab.cell(facts={"device": other}, alter=({"device": "cuda"}, {"device_uuid": "GPU-1"})))
    assert (cell.status, cell.device) == ("ok", other)


@pytest.mark.parametrize("said", [{"S": 256}, {"backend": "triton"}, {"stage": "check"}, {"schema_version": 1}])
def test_a_cell_that_says_it_is_another_is_invalid(lab: Lab, said: dict[str, object]) -> None:
    """A file under the name of another backend or context, of another stage or schema is INVALID."""
    assert read_cell(lab.cell("sdpa", 2048, said=said), lab.stamps).status == "invalid"


def test_a_path_that_names_no_cell_is_an_error(tmp_path: Path) -> None:
    """S and backend of an unreadable file come from its path, so a path without them is an error."""
    with pytest.raises(RecordError, match="expected"):
        read_cell(tmp_path / "decode" / "sdpa" / "latest.parquet")
    with pytest.raises(RecordError, match="expected"):
        read_check(tmp_path / "cuda.parquet")


def test_a_sound_check_gives_its_rows_and_facts(lab: Lab) -> None:
    """A kernel check of today is ok on a GPU and on a CPU."""
    on_gpu, on_cpu = read_check(lab.check("cuda"), lab.stamps), read_check(lab.check("fa2", device="cpu"), lab.stamps)
    assert (on_gpu.status, on_gpu.facts.dtype, on_gpu.on_cuda, on_gpu.name) == ("ok", "bfloat16", True, "check_cuda")
    assert (on_cpu.status, on_cpu.device, on_cpu.on_cuda) == ("ok", CPU, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"said": {"stamp": OLD}}, "sources changed"),
        ({"said": {"backend": "fa2"}}, "backend is 'fa2', expected 'cuda'"),
        ({"alter": ({"process": 1, "order": 3}, {"value_ns": 0})}, "a value_ns is 0"),
        ({"alter": ({"process": 1}, {"value_ns": -1})}, "a value_ns is -1"),
        ({"alter": ({"process": 1}, {"dtype": "float32"})}, "dtype is 'float32' in process 1, expected 'bfloat16'"),
        ({"alter": ({"process": 1}, {"context": 1088})}, "context is 4096 in some rows and 1088 in others"),
        ({"alter": ({"process": 1}, {"groups": 2})}, "groups is 4 in some rows and 2 in others"),
        ({"alter": ({"process": 1}, {"sel_block": 32})}, "sel_block is 64 in some rows and 32 in others"),
        ({"alter": ({"process": 1}, {"process": 9})}, "process is [0, 2, 9], expected the replicates [0, 1, 2]"),
        ({"facts": {"replicates": (replicate(0), replicate(1))}}, "expected the replicates [0, 1]"),
        ({"facts": {"device": CPU}}, "device.kind is 'cuda', and the facts say 'cpu'"),
    ],
)
def test_a_faulty_check_is_not_used(lab: Lab, change: dict[str, object], said: str) -> None:
    """A kernel check that is stale, foreign, mixed, or has a time of 0 gives no rows, and says why."""
    record = read_check(lab.check("cuda", **change), lab.stamps)
    assert record.status in ("stale", "invalid") and len(record.rows) == 0
    assert said in str(record.reason)


def test_a_record_of_the_schema_before_is_invalid_with_its_version(lab: Lab) -> None:
    """Results of an older version say that they are, and to delete them."""
    path = lab.check("cuda")
    table = parquet.read_table(path).replace_schema_metadata({b"nsa": b'{"schema_version": 1, "stage": "check"}'})
    import pyarrow.parquet as pq

    pq.write_table(table, path)
    assert "schema version 1, expected 2" in str(read_check(path).reason)


def test_a_refused_shape_keeps_its_reason(lab: Lab) -> None:
    """A row with a fault and no errors is a result."""
    path = lab.check("cuda", alter=({"seed": 0}, {"mae": None, "fault": "refused: q: got h = 4"}))
    rows = read_check(path).rows
    assert rows[rows["fault"].notna()]["has_result"].all()
    assert "has_result" not in schemas.CHECK_REPETITIONS.names
