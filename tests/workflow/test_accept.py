"""From a run to an accepted run, and from there to the next report."""

from __future__ import annotations

import json

import pytest
from project import Project


def test_a_run_is_accepted_and_the_next_report_compares_with_it(project: Project) -> None:
    """The whole way: what is accepted is found, noticed by the report's rule, and said."""
    project.configure(candidates=[], decode={"processes": 2})
    assert project.run().returncode == 0
    refused = project.nsa("accept")
    assert (refused.returncode, "--cpu to keep it" in refused.stderr, refused.stderr.count("\n")) == (2, True, 1)

    assert project.nsa("accept", "--cpu").returncode == 0
    (kept,) = (project.root / "accepted").iterdir()
    assert project.planned() == {"report"}
    result = project.run()
    assert result.returncode == 0, result.stdout + result.stderr
    comparison = json.loads((project.root / "results/gate.json").read_text())["comparison"]
    assert (comparison["status"], comparison["accepted"]) == ("compared", f"accepted/{kept.name}")
    assert [line["reason"] for line in comparison["lines"]] == ["it is the accepted record"]
    assert project.planned() == set()
    kept.unlink()
    assert project.planned() == {"report"}

    project.append("nsa/bench/decode/arms.py")  # and no `snakemake` since
    stale = project.nsa("accept", "--cpu")
    assert (stale.returncode, "sdpa/S128 is STALE" in stale.stderr) == (2, True)


def test_what_is_accepted_is_the_run_that_is_there(project: Project) -> None:
    """Neither a dry run with other settings nor an edited config.yaml changes which run is accepted."""
    project.configure(candidates=[], decode={"processes": 2})
    assert project.run().returncode == 0
    assert project.planned("--config", "contexts=[128, 256]", "decode={iters: 7}") != set()
    project.configure(contexts=[512], candidates=["fa2"])
    accepted = project.nsa("accept", "--cpu")
    assert (accepted.returncode, accepted.stderr) == (0, "")
    assert accepted.stdout.startswith("accepted: ")


@pytest.mark.parametrize("missing", ["results/environment.json", "results/decode/sdpa/S128.parquet"])
def test_without_a_run_there_is_nothing_to_accept(missing: str, project: Project) -> None:
    """A part of the run that is gone is named in one line."""
    (project.root / missing).unlink()
    refused = project.nsa("accept", "--cpu")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert missing in refused.stderr
