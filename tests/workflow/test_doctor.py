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

from nsa.kernels.cuda import sha256
from nsa.records import files, parquet


def told(project: Project, environ: dict[str, str] | None = None) -> dict[str, str]:
    """What the doctor says of each file, after its exit status and form were looked at."""
    before = contents(project.root)
    result = project.nsa("doctor", environ=environ)
    assert contents(project.root) == before
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    if result.returncode == 0:
        assert lines == ["results: sound"]
        return {}
    assert result.returncode == 1
    assert all(re.fullmatch(r"\S+: .+; .+", line) for line in lines), lines
    return dict(line.split(": ", 1) for line in lines)


def contents(root: Path) -> dict[Path, tuple[int, int]]:
    """Every file, its size and its date."""
    files = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def test_a_finished_folder_is_sound(finished: Project) -> None:
    """Without it, the doctor could cry wolf, and nobody would listen when it matters."""
    assert told(finished) == {}


def test_a_folder_without_results_says_how_to_begin(clone: Project) -> None:
    """Without it, a new user would read thirty lines about missing files."""
    assert told(clone) == {"results": "nothing has been run yet; run `snakemake`"}


def test_every_fault_is_one_line_with_its_mend(project: Project) -> None:
    """Without it, a broken folder would have to be understood by reading its files."""
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
    mark = urlsafe_b64encode(b"results/decode_cuda.parquet").decode()
    (snakemake / "incomplete" / mark).write_text("{}")
    os.utime(results / "check_cuda.parquet")
    found = told(project)
    delete = "; delete results/{0}, then run `snakemake`"
    assert found.pop("results/decode/sdpa/S128.parquet").endswith(delete.format("decode/sdpa/S128.parquet"))
    assert found.pop("results/decode/fa2/S128.parquet") == "missing; run `snakemake`"
    schema = f"invalid: schema version 99, expected {parquet.SCHEMA_VERSION}"
    assert found.pop("results/check_sdpa.parquet").startswith(schema)
    assert found.pop("results/dram_fa2.json").startswith("invalid: is not JSON")
    assert found.pop("results/tune/triton.json").startswith("invalid: got a JSON list, expected an object")
    assert found.pop("results/.stamps/decode-triton.json").endswith("; run `snakemake -n`, which writes it anew")
    assert found.pop(f"results/.check_cuda.parquet.x7{files.TEMPORARY}").endswith("it counts as nothing; delete it")
    assert found.pop(f"{snakemake.name}/locks/0.output.lock").endswith("; run `snakemake --unlock`")
    assert found.pop("results/decode_cuda.parquet") == "its job was killed before it ended; run `snakemake`"
    older = "older than results/decode/sdpa/S128.parquet, which it is made from; run `snakemake`"
    assert found.pop("results/decode_sdpa.parquet") == older
    assert found.pop("results/gate_report.md").startswith("older than results/check_")
    assert found == {}


def other_schema(path: Path) -> None:
    """Let a record say that another version of this project wrote it."""
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[parquet.KEY]) | {"schema_version": 99}
    pq.write_table(table.replace_schema_metadata({parquet.KEY: json.dumps(facts)}), path)


@pytest.mark.parametrize(
    ("source", "stale", "fresh"),
    [
        ("nsa/report/page/plots.py", ["gate.json"], ["decode_sdpa.parquet", "check_sdpa.parquet"]),
        ("nsa/kernels/fa2/package.py", ["decode/fa2/S128.parquet", "check_fa2.parquet"], ["check_sdpa.parquet"]),
    ],
)
def test_what_is_stale_says_why(source: str, stale: list[str], fresh: list[str], project: Project) -> None:
    """Without it, results of older code would look sound until somebody runs Snakemake."""
    project.append(source, "\nEDITED = 1\n")
    found = told(project)
    for name in stale:
        assert re.match(
            r"stale: sources changed since it was (made|measured); run `snakemake", found[f"results/{name}"]
        )
    assert not {f"results/{name}" for name in fresh} & set(found)


def test_another_machine_and_other_settings_are_named(project: Project, tmp_path: Path) -> None:
    """Without it, a folder that was copied from another machine would look as if it were this one's."""
    project.configure(decode={"iters": 5})
    found = told(project, machine(tmp_path / "there"))
    assert found["results/decode/sdpa/S128.parquet"].startswith("stale: settings, machine changed since")
    assert found["results/environment.json"].startswith("stale: another machine")


def test_a_library_is_examined(project: Project) -> None:
    """Without it, a damaged extension would be found only when a GPU job has been waited for."""
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
    """Without it, the doctor would call a run that is under way a ruin."""
    with project.holding(CLAIM) as run:
        found = told(project)
        run.kill()
    assert found == {"results/.lock": f"process {run.pid} is running the pipeline here; let it end, then ask again"}
