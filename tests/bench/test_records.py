"""How a timed stage opens its inputs, and the record that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from records.examples import DECODE
from standins import DIGESTS, ON_CUDA, WITH_GPU, stage_inputs

from nsa import backends
from nsa.bench.records import backend_of, open_stage, write
from nsa.bench.runner import Result
from nsa.config import DecodeSettings
from nsa.errors import ConfigError, Disturbed, RecordError
from nsa.records import files, parquet, schemas
from nsa.records.decode import DecodeFacts
from nsa.records.outcome import Header, NotRun, Ok, Unavailable
from nsa.records.stamp import Sources, digest

OWN_STAGE = [name for name in backends.names() if backends.spec(name).stage is not None]


def artifact_of(backend: str) -> Path:
    """Where the backend's own stage writes, below the results folder."""
    stage = backends.spec(backend).stage
    assert stage is not None
    return Path(stage.artifact)


def test_what_was_stamped_is_what_a_stage_starts_from(tmp_path: Path) -> None:
    """Settings, flags and device are the stamp's; the machine is the environment's; artifacts go by their backend."""
    settings = {"decode": {}, "flags": {"NSA_SEL_CUDA": True, "NSA_FA2_FORCE": False}, "device": "cuda"}
    stamp, environment = stage_inputs(tmp_path, "decode-cuda", settings, WITH_GPU)
    artifacts = []
    for name in OWN_STAGE:
        artifacts.append(tmp_path / "results" / artifact_of(name))
        files.write_text(artifacts[-1], json.dumps({"of": name}))
    opened = open_stage(stamp, environment, artifacts)
    assert opened.host.device == ON_CUDA.device and opened.host.machine.capability == (9, 0)
    assert opened.host.flags.on("NSA_SEL_CUDA") and not opened.host.flags.on("NSA_FA2_FORCE")
    assert opened.host.machine.artifacts == {name: {"of": name} for name in OWN_STAGE}
    assert opened.digests == DIGESTS and opened.provenance.environment.gpu_uuid == WITH_GPU.gpu_uuid


@pytest.mark.parametrize("backend", OWN_STAGE)
def test_an_artifact_names_its_backend_by_its_path(backend: str) -> None:
    """In whatever results folder it lies."""
    assert backend_of(Path("elsewhere/results") / artifact_of(backend)) == backend


def test_a_file_that_is_no_artifact_is_refused() -> None:
    """The option and the path are named."""
    with pytest.raises(ConfigError, match=r"^--artifacts: got results/environment\.json, expected the artifact of a"):
        backend_of(Path("results/environment.json"))


def test_inputs_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    """A missing stamp, environment or artifact says which command makes it."""
    stamp, environment = stage_inputs(tmp_path, "decode-cuda", {})
    with pytest.raises(RecordError, match=r"absent.json: cannot be read .*run `snakemake -n`, which writes it anew$"):
        open_stage(tmp_path / "absent.json", environment, ())
    with pytest.raises(RecordError, match=r"absent.json: cannot be read .*run `snakemake .*absent.json` first$"):
        open_stage(stamp, tmp_path / "absent.json", ())
    made = tmp_path / artifact_of(OWN_STAGE[0])
    with pytest.raises(RecordError, match=rf"{made.name}: cannot be read"):
        open_stage(stamp, environment, [made])


def test_a_stamped_section_is_checked_like_config_yaml(tmp_path: Path) -> None:
    """A value out of its bounds, or a missing key of a complete section, is one line that names the stamp."""
    whole = DecodeSettings(batch=3).model_dump(mode="json")
    stamp, environment = stage_inputs(
        tmp_path, "decode-cuda", {"whole": whole, "part": {"batch": 2}, "bad": {"batch": 0}}
    )
    opened = open_stage(stamp, environment, ())
    assert opened.section("whole", DecodeSettings) == DecodeSettings(batch=3)
    assert opened.section("part", DecodeSettings, complete=False) == DecodeSettings(batch=2)
    with pytest.raises(ConfigError, match=rf"{stamp} lacks the key"):
        opened.section("part", DecodeSettings)
    with pytest.raises(ConfigError, match=rf"{stamp}: batch: got 0, expected"):
        opened.section("bad", DecodeSettings, complete=False)


@pytest.mark.parametrize(
    "outcome", [Ok(facts=DECODE), Unavailable(reason="no GPU", fix="buy one")], ids=["ok", "unavailable"]
)
def test_a_record_is_written_whatever_the_outcome(outcome: Ok[DecodeFacts] | NotRun, tmp_path: Path) -> None:
    """It has the stage's columns, the outcome, the device that was taken and the stamp's digests."""
    opened = open_stage(*stage_inputs(tmp_path, "decode-cuda", {}, WITH_GPU), ())
    card = ON_CUDA.on_card("GPU-other").device
    rows = [{"arm": "all", "value_ns": 5}] if outcome.status == "ok" else ()
    write(tmp_path / "r.parquet", opened, "decode", Result(card, outcome, rows), "cuda", S=128)
    table, header = parquet.read(tmp_path / "r.parquet", Header[DecodeFacts], schemas.REPETITIONS)
    assert (header.stage, header.backend, header.S, header.device) == ("decode", "cuda", 128, card)
    assert header.outcome == outcome and header.stamp == DIGESTS
    assert table.num_rows == len(rows)


def test_a_source_that_changes_while_a_stage_runs_leaves_no_record(tmp_path: Path) -> None:
    """What was measured partly with another source is no record of the stamp's, which it would carry."""
    source = tmp_path / "kept_apart" / "kernel.py"
    files.write_text(source, "BLOCK = 64\n")
    files.write_text(source.parent / "__init__.py", "")
    sys.path.insert(0, str(tmp_path))
    try:
        opened = open_stage(*stage_inputs(tmp_path, "decode-cuda", {}, WITH_GPU), ())
        name = "kept_apart/kernel.py"
        opened = replace(opened, sources=Sources(digest=digest({name: source}), files=(name,)))
        result = Result(ON_CUDA.device, Unavailable(reason="no GPU", fix="buy one"), ())
        write(tmp_path / "before.parquet", opened, "decode", result, "cuda", S=128)
        for change in (lambda: files.write_text(source, "BLOCK = 32\n"), source.unlink):
            change()
            with pytest.raises(Disturbed, match=r"^a source of this stage was edited while it ran, .*; run it again$"):
                write(tmp_path / "after.parquet", opened, "decode", result, "cuda", S=128)
    finally:
        sys.path.remove(str(tmp_path))
    assert (tmp_path / "before.parquet").is_file() and not (tmp_path / "after.parquet").exists()


def test_every_timed_stage_has_its_columns() -> None:
    """A stage's rows are written by its own schema."""
    assert schemas.OF_STAGE == {
        "decode": schemas.REPETITIONS,
        "check": schemas.CHECK_REPETITIONS,
        "roofline": schemas.ROOFLINE,
        "core": schemas.CORE,
        "core_curve": schemas.CORE,
    }


def test_the_command_sides_import_neither_torch_nor_arrow_nor_pandas() -> None:
    """What waits for the processes, or says that a backend is unavailable, starts in a moment."""
    stages = ", ".join(
        f"nsa.bench.{name}.stage" for name in ("decode", "check", "core_curve", "dram", "roofline", "tune")
    )
    stages += ", nsa.bench.apart.worker"  # which starts another process before it imports torch itself
    heavy = {"torch", "pyarrow", "pandas", "scipy", "triton"}
    program = f"import sys, {stages}; print(*{heavy} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == ""
