"""`python -m nsa doctor`: one line for each fault of a results folder, with its fix; it changes nothing."""

from __future__ import annotations

import json
import os
import re
from base64 import urlsafe_b64encode
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from project import CLAIM, Project, machine

from nsa.records import files, parquet
from nsa.records.facts import SCHEMA_VERSION
from nsa.records.files import sha256


def told(project: Project, environ: dict[str, str] | None = None) -> dict[str, str]:
    """What the doctor says of each file, notes included, after its exit status and form were looked at."""
    before = contents(project.root)
    result = project.nsa("doctor", environ=environ)
    assert contents(project.root) == before
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    if result.returncode == 0:
        assert lines.pop() == "results: sound"
        assert all("; a note: " in line for line in lines)
    assert result.returncode == (1 if any("; a note: " not in line for line in lines) else 0)
    assert all(re.fullmatch(r"\S+: .+; .+", line) for line in lines), lines
    return dict(line.split(": ", 1) for line in lines)


def contents(root: Path) -> dict[Path, tuple[int, int]]:
    """Every file, its size and its date."""
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_a_finished_folder_is_sound(finished: Project) -> None:
    """A whole folder has no fault."""
    assert told(finished) == {}


def test_a_folder_without_results_says_how_to_begin(clone: Project) -> None:
    """A new user reads one line, and not thirty about missing files."""
    assert told(clone) == {"results": "nothing has been run yet; run `snakemake`"}


def test_every_fault_is_one_line_with_its_fix(project: Project) -> None:
    """A broken folder is understood without reading its files."""
    results, snakemake = project.root / "results", project.root / ".snakemake"
    (results / "decode/sdpa/S128.parquet").write_bytes(b"PAR1 cut short")
    (results / "decode/fa2/S128.parquet").unlink()
    other_schema(results / "check_sdpa.parquet")
    (results / "dram_fa2.json").write_text('{"stage": ')
    (results / "tune/triton.json").write_text("[]")
    (results / ".stamps/decode-triton.json").write_text("{}")
    (results / f".check_cuda.parquet.x7{files.TEMPORARY}").touch()
    (snakemake / "locks").mkdir(exist_ok=True)
    (snakemake / "locks/0.output.lock").write_text("results/gate_report.md\n")
    mark = urlsafe_b64encode(b"results/dram_cuda.json").decode()
    (snakemake / "incomplete" / mark).write_text("{}")
    os.utime(results / "decode/cuda/S128.parquet")
    found = told(project)
    assert all("rerun" not in line for line in found.values())  # a reader's own fix does not stand beside this one
    delete = "; delete results/{0}, then run `snakemake`"
    assert found.pop("results/decode/sdpa/S128.parquet").endswith(delete.format("decode/sdpa/S128.parquet"))
    assert found.pop("results/decode/fa2/S128.parquet") == "missing; run `snakemake`"
    schema = f"invalid: schema version 1, expected {SCHEMA_VERSION} (see CHANGELOG.md)"
    assert found.pop("results/check_sdpa.parquet").startswith(schema)
    assert found.pop("results/dram_fa2.json").startswith("invalid: is not JSON")
    assert found.pop("results/tune/triton.json").startswith("invalid: got a JSON list, expected an object")
    assert found.pop("results/.stamps/decode-triton.json").endswith("; run `snakemake -n`, which writes it anew")
    assert found.pop(f"results/.check_cuda.parquet.x7{files.TEMPORARY}").endswith("it counts as nothing; delete it")
    assert found.pop(f"{snakemake.name}/locks/0.output.lock").endswith("; run `snakemake --unlock`")
    assert found.pop("results/dram_cuda.json") == "its job was killed before it ended; run `snakemake`"
    assert found == {}  # a date alone is no fault


def other_schema(path: Path) -> None:
    """Let a record say that an older version of this project wrote it."""
    table = pq.read_table(path)
    facts = {"schema_version": 1, "stage": "check", "status": "ok"}
    pq.write_table(table.replace_schema_metadata({parquet.KEY: json.dumps(facts)}), path)


def test_results_of_an_older_version_are_explained(project: Project) -> None:
    """Who upgrades learns what became of the old files, and each fix makes its line go away."""
    results = project.root / "results"
    (results / ".stamps/build.json").write_text("{}")
    (results / ".stamps/deleted").write_text("{}")
    (project.root / "baselines").mkdir()
    (results / "gate.json").write_text('{"schema_version": 1, "invest": {}}')
    found = told(project)
    assert all("(see CHANGELOG.md)" in line for line in found.values())
    names = {"results/.stamps/build.json", "results/.stamps/deleted", "baselines", "results/gate.json"}
    assert set(found) == names
    for name in names - {"baselines"}:
        (project.root / name).unlink()
    (project.root / "baselines").rmdir()
    assert project.run().returncode == 0
    assert told(project) == {}


def test_a_run_is_judged_by_its_own_configuration(project: Project) -> None:
    """A run with another --configfile is sound, whatever a dry run stamped since; a note says what differs."""
    (project.root / "more.yaml").write_text("contexts: [128, 192]\ncandidates: []\n")
    assert project.run("--configfile", "more.yaml").returncode == 0
    assert set(told(project)) == {"config.yaml"}  # from where the file is not part of the command
    assert project.planned("--config", "decode={iters: 5}") != set()
    project.configure(decode={"iters": 7})
    note = told(project)["config.yaml"]
    assert note.startswith(
        "not what the run in this folder was made with: contexts is [128], was [128, 192], candidates"
    )
    assert "decode.iters is 7, was 3" in note and note.endswith("; a note: run `snakemake` for what it says now")
    (project.root / "results/decode/sdpa/S192.parquet").unlink()
    assert told(project)["results/decode/sdpa/S192.parquet"] == "missing; run `snakemake`"
    assert project.planned("--configfile", "config.yaml", "more.yaml") >= {"decode sdpa 192"}


def test_a_flag_that_differs_is_a_note(finished: Project) -> None:
    """A flag that is set now and was not then changes nothing that is there."""
    assert told(finished, {"NSA_FA2_FORCE": "1"})["config.yaml"].startswith(
        "not what the run in this folder was made with: NSA_FA2_FORCE is 1, was unset; a note"
    )


@pytest.mark.parametrize(
    ("source", "stale", "fresh"),
    [
        ("nsa/report/page/plots.py", ["gate.json"], ["decode_cuda.parquet", "check_sdpa.parquet"]),
        ("nsa/kernels/fa2/package.py", ["decode/fa2/S128.parquet", "check_fa2.parquet"], ["check_sdpa.parquet"]),
    ],
)
def test_what_is_stale_says_why(source: str, stale: list[str], fresh: list[str], project: Project) -> None:
    """Results of older code do not look sound until somebody runs Snakemake."""
    project.append(source, "\nEDITED = 1\n")
    found = told(project)
    for name in stale:
        assert re.match(
            r"stale: sources changed since it was (made|measured); run `snakemake", found[f"results/{name}"]
        )
    assert not {f"results/{name}" for name in fresh} & set(found)


def test_an_accepted_run_that_is_new_is_named_as_a_reason(project: Project) -> None:
    """After `nsa accept` the report compares with another run, though no setting has changed."""
    accepted = project.root / "accepted" / "some-gpu.parquet"
    accepted.parent.mkdir(exist_ok=True)
    accepted.write_bytes(b"of another run")
    said = told(project)["results/gate.json"]
    assert said == "stale: settings or the accepted run changed since it was made; run `snakemake`"


def test_another_machine_is_named(project: Project, tmp_path: Path) -> None:
    """A folder that was copied from another machine does not look as if it were this one's."""
    found = told(project, machine(tmp_path / "there"))
    assert found["results/decode/sdpa/S128.parquet"].startswith("stale: machine changed since")
    assert found["results/environment.json"].startswith("stale: another machine")
    assert found["results/tune/triton.json"].startswith("stale: machine changed since")
    facts = found["results/.stamps"]
    assert facts.startswith("of another machine, or other software: ") and facts.count("driver ") == 1
    assert re.search(r"torch \S+ → 9\.9\.0[,;]", facts) and re.search(r" → 580\.1[,;]", facts)


def test_a_library_is_examined(project: Project) -> None:
    """A damaged extension is found before a GPU job is waited for."""
    library, manifest = project.root / "results/build/nsa_cuda.so", project.root / "results/build/cuda.json"
    facts = json.loads(manifest.read_text()) | {"status": "built", "archs": ["90a"]}
    facts |= {"library": "results/build/nsa_cuda.so", "library_sha256": "of what was built"}
    rebuild = "; delete results/build/cuda.json, then run `snakemake`"

    def said(**changes: object) -> str:
        manifest.write_text(json.dumps(facts | changes))
        return told(project)["results/build/nsa_cuda.so"]

    assert said() == f"missing{rebuild}"
    library.write_bytes(b"\x7fELF cut")
    assert said() == f"damaged: not the library that was built{rebuild}"
    assert re.fullmatch(r"does not load \(.+\)" + re.escape(rebuild), said(library_sha256=sha256(library)))


def test_a_run_at_work_is_named(project: Project) -> None:
    """A run that is under way is no ruin."""
    with project.holding(CLAIM) as run:
        found = told(project)
        run.kill()
    assert found == {"results/.lock": f"process {run.pid} is running the pipeline here; let it end, then ask again"}
