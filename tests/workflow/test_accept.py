"""From a run to an accepted run, and from there to the next report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import Project


@pytest.fixture(scope="module")
def replicated(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project without candidates, and with the two replicates that a comparison needs."""
    project = finished.copy(tmp_path_factory.mktemp("replicated") / "project")
    project.configure(candidates=[], decode={"processes": 2})
    assert project.run().returncode == 0
    return project


@pytest.fixture
def decided(replicated: Project, tmp_path: Path) -> Project:
    """A copy of it that a test may change."""
    return replicated.copy(tmp_path / "project")


def test_a_run_is_accepted_and_the_next_report_compares_with_it(decided: Project) -> None:
    """The whole way: what is accepted is found, noticed by the report's rule, and said."""
    refused = decided.nsa("accept")
    assert (refused.returncode, "--cpu to keep it" in refused.stderr, refused.stderr.count("\n")) == (2, True, 1)

    assert decided.nsa("accept", "--cpu").returncode == 0
    (kept,) = (decided.root / "accepted").iterdir()
    assert decided.planned() == {"report"}
    result = decided.run()
    assert result.returncode == 0, result.stdout + result.stderr
    comparison = json.loads((decided.root / "results/gate.json").read_text())["comparison"]
    assert (comparison["status"], comparison["accepted"]) == ("compared", f"accepted/{kept.name}")
    assert [line["reason"] for line in comparison["lines"]] == ["it is the accepted record"]
    assert decided.planned() == set()
    kept.unlink()
    assert decided.planned() == {"report"}

    decided.append("nsa/bench/decode/arms.py")  # and no `snakemake` since
    stale = decided.nsa("accept", "--cpu")
    assert (stale.returncode, "sdpa/S128 is STALE" in stale.stderr) == (2, True)


def test_what_is_accepted_is_the_run_that_is_there(decided: Project) -> None:
    """Neither a dry run with other settings nor an edited config.yaml changes which run is accepted."""
    assert decided.planned("--config", "contexts=[128, 256]", "decode={iters: 7}") != set()
    decided.configure(contexts=[512], candidates=["fa2"])
    accepted = decided.nsa("accept", "--cpu")
    assert (accepted.returncode, accepted.stderr) == (0, "")
    assert accepted.stdout.startswith("accepted: ")


def test_a_report_that_is_gone_is_not_made_up_from_a_dry_run(decided: Project) -> None:
    """Without the report nothing says which run to accept; the last dry run's settings do not stand for it."""
    (decided.root / "results/gate.json").unlink()
    decided.planned("--config", "gates={confidence: 0.6}")
    refused = decided.nsa("accept", "--cpu")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert refused.stderr.startswith("error: results/gate.json: ") and "snakemake" in refused.stderr


def test_a_record_that_the_report_does_not_know_is_not_accepted(decided: Project) -> None:
    """A cell that was measured again, by the same settings, is accepted with the report that shows it."""
    cell = decided.root / "results/decode/sdpa/S128.parquet"
    cell.unlink()
    assert decided.run("results/decode/sdpa/S128.parquet").returncode == 0
    refused = decided.nsa("accept", "--cpu")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "sdpa/S128 was measured again since results/gate.json was made" in refused.stderr
    assert decided.run().returncode == 0
    assert decided.nsa("accept", "--cpu").returncode == 0


@pytest.mark.parametrize("missing", ["results/environment.json", "results/decode/sdpa/S128.parquet"])
def test_without_a_run_there_is_nothing_to_accept(missing: str, project: Project) -> None:
    """A part of the run that is gone is named in one line."""
    (project.root / missing).unlink()
    refused = project.nsa("accept", "--cpu")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert missing in refused.stderr
