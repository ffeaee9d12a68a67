"""The whole report from synthetic records, read as its user reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from nsa.errors import RecordError
from nsa.records import parquet
from nsa.report.analysis.read import read_cell
from nsa.report.page.render import plain, report
from nsa.report.verdict.checks import CHECKS
from nsa.report.verdict.gates import exit_status
from nsa.report.verdict.run import ReportSettings

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def gpu_run(lab: Lab, **baseline: Any) -> dict[str, Any]:
    """A run with a good, a slow and an unavailable kernel."""
    cells = [lab.cell("sdpa", S, **baseline) for S in (128, 2048)]
    cells += [lab.cell("cuda", S, parts={"sel": 0.015}) for S in (128, 2048)]
    cells += [lab.cell("triton", 128), lab.cell("triton", 2048, status="oom")]
    cells += [lab.cell("fa2", S, status="unavailable") for S in (128, 2048)]
    checks = [lab.check("cuda"), lab.check("triton", speedup=1.1), lab.check("fa2", status="unavailable")]
    return lab.render(cells, checks)


@pytest.fixture(scope="module")
def finished(module_lab: Lab) -> Lab:
    """The run above, for the tests that only read it."""
    gpu_run(module_lab)
    return module_lab


def text(lab: Lab) -> str:
    return (lab.root / "gate_report.md").read_text()


def test_report_order(finished: Lab) -> None:
    """The reader must meet the verdicts first, and anomalies before any kernel is praised."""
    places = [
        text(finished).index(part)
        for part in (
            "**Invest**",
            "**Accept cuda**",
            "**Accept triton**",
            "**Accept fa2**",
            "## Decode step, one line per S",
            "| 128 | sdpa |",
            "- `fa2` at S = 128, 2048: unavailable (fa2 is not here). Fix: run on a GPU.",
            "figures/decode_breakdown.png",
            "## Anomalies",
            "## Kernel check",
            "### cuda: ACCEPT",
            "### triton: REJECT",
            "## Environment and provenance",
            "## How to reproduce",
        )
    ]
    assert places == sorted(places)


def test_report_says_both_verdicts_with_their_reasons(finished: Lab) -> None:
    """A verdict without its reason, or another than gate.json's, could not be defended."""
    gate = json.loads((finished.root / "gate.json").read_text())
    lines = text(finished).splitlines()
    assert (gate["invest"]["verdict"], gate["accept"]["cuda"]["verdict"]) == ("GO", "ACCEPT")
    assert f"**GO.** {gate['invest']['reason']}" in lines[2]
    assert gate["accept"]["triton"]["reason"] in lines[6]
    assert exit_status(finished.root / "gate.json")[0] == 1  # triton is rejected


def test_one_line_per_context_has_total_shares_and_reads(finished: Lab) -> None:
    """The guide's deliverable: total ms, branch percentages and reads for each S."""
    line = next(line for line in text(finished).splitlines() if line.startswith("| 2048 | sdpa |"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert [cell.split(" ")[0] for cell in cells] == [
        "2048",
        "sdpa",
        cells[2][:6],
        "10.4",
        "41.6",
        "12.5",
        "1663/1663",
        "GO",
    ]
    assert float(cells[2].split(" ")[0]) == pytest.approx(0.0961, rel=5e-3)


def test_a_cpu_run_is_not_measured_and_marked(lab: Lab) -> None:
    """CPU figures without the mark would be taken for the GPU's."""
    cells = [lab.cell("sdpa", S, device="cpu") for S in (128, 2048)]
    cells += [lab.cell("cuda", S, device="cpu", status="unavailable") for S in (128, 2048)]
    gate = lab.render(cells, [lab.check("triton", device="cpu")])
    assert gate["invest"]["verdict"] == "NOT MEASURED"
    assert {found["verdict"] for found in gate["accept"].values()} == {"NOT MEASURED"}
    assert "eager wall time on a CPU, which decides nothing" in text(lab)
    assert "What a selection kernel does" not in text(lab)
    assert exit_status(lab.root / "gate.json")[0] == 3


def test_stale_and_invalid_records_are_named_and_never_used(lab: Lab) -> None:
    """Their figures would decide on code that no longer exists."""
    stale = lab.cell("sdpa", 128, parts={"sel": 0.9}, facts={"stamp": {**lab.stamp, "sources": "old"}})
    broken, good = lab.cell("cuda", 128), lab.cell("sdpa", 2048)
    broken.write_bytes(b"broken")
    gate = lab.render([stale, good, broken])
    assert gate["invest"]["verdict"] == "NOT MEASURED"
    assert "S = 128: sdpa is STALE (sources changed since it was measured)" in gate["invest"]["reason"]
    assert "`cuda` at S = 128: INVALID" in text(lab)
    assert [row["ms_total"] is None for row in gate["decode"]] == [True, False, True]
    assert "| 128 | sdpa |" not in text(lab)
    frame = pd.read_csv(lab.root / "decode.csv")
    assert frame.set_index(["backend", "S"]).loc[("sdpa", 128), "status"] == "stale"
    assert frame["ms_total"].count() == 1
    assert exit_status(lab.root / "gate.json")[0] == 1  # an invalid record blocks


def test_a_stale_kernel_check_decides_nothing(lab: Lab) -> None:
    """An ACCEPT of yesterday's kernel would ship today's."""
    old = lab.check("cuda", facts={"stamp": {**lab.stamp, "sources": "old"}})
    gate = lab.render([lab.cell("sdpa", 128), lab.cell("sdpa", 2048)], [old])
    assert gate["accept"]["cuda"]["verdict"] == "NOT MEASURED"
    assert "cuda is STALE" in gate["accept"]["cuda"]["reason"]


def test_fired_checks_reach_the_report_and_the_verdict(lab: Lab) -> None:
    """A check that nobody sees protects nobody."""
    gate = gpu_run(lab, facts={"outputs_finite": False})
    assert gate["invest"]["verdict"] == "INCONCLUSIVE"
    assert "- **blocking** `output_not_finite` on sdpa/S128" in text(lab)
    assert "- warning `selects_everything` on sdpa at S = 128" in text(lab)
    table, _ = parquet.read(lab.root / "checks.parquet", CHECKS)
    assert sum(table["fired"].to_pylist()) == len(gate["anomalies"])


def test_decode_csv_begins_with_the_guides_columns(finished: Lab) -> None:
    """Whoever reads the guide's CSV by position reads this one too."""
    lines = (finished.root / "decode.csv").read_text().splitlines()
    assert lines[0].startswith("S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected,backend,status")
    assert len(lines) == 1 + 8


def test_html_carries_its_figure_and_every_table(finished: Lab) -> None:
    """The page is sent on by itself: a linked figure would be lost."""
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            if tag == "img":
                assert (dict(attrs)["src"] or "").startswith("data:image/png;base64,")

    Reader().feed((finished.root / "gate_report.html").read_text())
    assert tags.count("img") == 1
    assert tags.count("table") == 7


def test_the_figure_is_a_png(finished: Lab) -> None:
    """The report links it, and Snakemake waits for it."""
    assert (finished.root / "figures" / "decode_breakdown.png").read_bytes().startswith(b"\x89PNG")


def test_when_nothing_ran_the_report_says_so(lab: Lab) -> None:
    """A pipeline on the wrong machine must end in a report with reasons, not in a traceback."""
    gate = lab.render([lab.cell("sdpa", S, status="unavailable") for S in (128, 2048)])
    assert gate["invest"]["reason"] == "At every target context: sdpa is unavailable (sdpa is not here)."
    assert "No cell ran, so there are no figures." in text(lab)
    assert "No figure is drawn: nothing ran." in text(lab)
    assert not (lab.root / "figures" / "decode_breakdown.png").exists()


def test_the_last_good_report_is_kept_aside(lab: Lab) -> None:
    """Snakemake deletes the report before the rule runs; a failing rerun must not lose the last good one."""
    previous = lab.root / "gate_report.previous.md"
    gpu_run(lab)
    first = text(lab)
    assert not previous.exists()
    (lab.root / "gate_report.md").unlink()  # as Snakemake does
    gpu_run(lab, parts={"sel": 0.002})
    assert previous.read_text() == first
    assert text(lab) != first


def test_a_failed_build_shows_the_end_of_its_log(lab: Lab) -> None:
    """A compiler's error is in its last lines."""
    lab.render([lab.cell("sdpa", 128)], build="failed")
    assert "CUDA build: failed (no nvcc). Fix: install CUDA." in text(lab)
    assert "\nline 49\n```" in text(lab)
    assert "\nline 29\n" not in text(lab)


def test_a_missing_environment_is_one_clear_error(lab: Lab) -> None:
    """A report without its machine is not reproducible."""
    with pytest.raises(RecordError, match=r"environment\.json: cannot be read"):
        report(lab.root / "environment.json", None, [], [], [], {}, lab.settings, {}, lab.root)


def test_one_process_is_shown_as_such(lab: Lab) -> None:
    """An interval from one replicate would be invented."""
    gate = gpu_run(lab, processes=1)
    assert "too few replicates" in gate["invest"]["reason"]
    assert "(1 process)" in text(lab)
    assert gate["invest"]["contexts"][0]["share"]["low"] is None  # JSON has no infinity
    assert json.loads((lab.root / "gate.json").read_text()) == gate


def test_settings_are_read_from_the_stamp_of_the_report() -> None:
    """What was stamped is what decides."""
    gates = {"confidence": 0.9, "invest": {"go": 0.5, "no_go": 0.4, "max_disagreement": 0.1}}
    gates["accept"] = {"mae": 1.0, "speedup": 2.0, "error_ratio": 3.0}
    stamped = {"baseline": "sdpa", "backends": ["sdpa", "cuda"], "target_contexts": [128], "contexts": [128]}
    settings = ReportSettings.from_dict({**stamped, "check": {"rows": [256], "seeds": 7}, "gates": gates})
    assert (settings.backends, settings.check.rows, settings.check.seeds) == (("sdpa", "cuda"), (256,), 7)
    assert settings.gates.invest["go"] == 0.5


def test_text_cannot_break_a_table_or_open_a_tag() -> None:
    """A reason that comes from a compiler or a driver may hold anything."""
    assert plain("a|b\n<script> 1 < 2") == "a\\|b &lt;script> 1 < 2"


def test_the_report_needs_no_torch(lab: Lab) -> None:
    """`nsa report` and `nsa check` start in a moment and run where torch is broken."""
    code = (
        "import sys, nsa.report.page.render, nsa.report.page.guide\n"
        "slow = {'torch', 'matplotlib', 'scipy.stats', 'nsa.bench', 'nsa.kernels', 'nsa.attention'}\n"
        "sys.exit(', '.join(slow & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.strip() == ""


def test_cells_out_of_the_settings_are_read_alike(lab: Lab) -> None:
    """A backend that only a flag asked for is reported after the others."""
    lab = replace(lab, settings=replace(lab.settings, backends=("cuda", "sdpa")))
    gate = lab.render([lab.cell("sdpa", 128), lab.cell("cuda", 128)])
    assert [row["backend"] for row in gate["decode"]] == ["cuda", "sdpa"]
    assert read_cell(lab.cell("sdpa", 128), lab.stamps).status == "ok"
