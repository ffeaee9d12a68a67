"""The whole report from synthetic records, read as its user reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from synthetic import GPU, OLD

from nsa.config import Flags, recorded
from nsa.errors import RecordError
from nsa.records import parquet
from nsa.records.facts import LeftOut
from nsa.records.made import ChecksHeader
from nsa.report.page.render import report
from nsa.report.page.tables import plain
from nsa.report.verdict.checks import CHECKS
from nsa.report.verdict.exit import read as said_of

if TYPE_CHECKING:
    from pydantic import JsonValue

    from tests.report.conftest import Lab


def gpu_run(lab: Lab, draws: bool = False, **baseline: object) -> dict[str, JsonValue]:
    """A run with a good, a slow and an unavailable kernel."""
    cells = [lab.cell("sdpa", S, **baseline) for S in (128, 2048)]
    cells += [lab.cell("cuda", S, parts={"sel": 0.015}) for S in (128, 2048)]
    cells += [lab.cell("triton", 128), lab.cell("triton", 2048, status="oom")]
    cells += [lab.cell("fa2", S, status="unavailable") for S in (128, 2048)]
    checks = [lab.check("cuda"), lab.check("triton", speedup=1.1), lab.check("fa2", status="unavailable")]
    return lab.render(cells, checks, draws=draws)


@pytest.fixture(scope="module")
def finished(module_lab: Lab) -> Lab:
    """The run above, for the tests that only read it."""
    gpu_run(module_lab, draws=True)
    return module_lab


def text(lab: Lab) -> str:
    return lab.layout.report.read_text()


@pytest.mark.parametrize(("processes", "said"), [(1, "; 1 process, "), (3, "; 3 processes, ")])
def test_processes_are_counted_as_people_say_it(lab: Lab, processes: int, said: str) -> None:
    """A first try, such as `nsa bench` makes, has one."""
    lab.render([lab.cell("sdpa", processes=processes)])
    assert said in lab.layout.report.read_text()


def test_report_order(finished: Lab) -> None:
    """The verdicts come first, and anomalies before the kernels."""
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
    """The page and gate.json say the same verdicts with the same reasons."""
    gate = json.loads(finished.layout.gate.read_text())
    lines = text(finished).splitlines()
    assert (gate["invest"]["verdict"], gate["accept"]["cuda"]["verdict"]) == ("GO", "ACCEPT")
    assert f"**GO.** {gate['invest']['reason']}" in lines[2]
    assert gate["accept"]["triton"]["reason"] in lines[6]
    assert said_of(finished.layout.gate).status == 1  # triton is rejected


def test_one_line_per_context_has_total_shares_and_reads(finished: Lab) -> None:
    """Each S has its total ms, branch percentages and reads, the guide's deliverable."""
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
    """A CPU run decides nothing, and says that it is one."""
    cells = [lab.cell("sdpa", S, device="cpu") for S in (128, 2048)]
    cells += [lab.cell("cuda", S, device="cpu", status="unavailable") for S in (128, 2048)]
    gate = lab.render(cells, [lab.check("triton", device="cpu")])
    assert gate["invest"]["verdict"] == "NOT MEASURED"
    assert {found["verdict"] for found in gate["accept"].values()} == {"NOT MEASURED"}
    assert "eager wall time on a CPU, which decides nothing" in text(lab)
    assert "What a selection kernel does" not in text(lab)
    assert said_of(lab.layout.gate).status == 3


def test_stale_and_invalid_records_are_named_and_never_used(lab: Lab) -> None:
    """Stale and broken records are named, and give no figures to anybody."""
    stale = lab.cell("sdpa", 128, parts={"sel": 0.9}, said={"stamp": OLD})
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
    assert said_of(lab.layout.gate).status == 1  # an invalid record blocks


def test_a_stale_kernel_check_decides_nothing(lab: Lab) -> None:
    """A kernel whose check is of yesterday is not measured."""
    old = lab.check("cuda", said={"stamp": OLD})
    gate = lab.render([lab.cell("sdpa", 128), lab.cell("sdpa", 2048)], [old])
    assert gate["accept"]["cuda"]["verdict"] == "NOT MEASURED"
    assert "cuda is STALE" in gate["accept"]["cuda"]["reason"]


def test_fired_checks_reach_the_report_and_the_verdict(lab: Lab) -> None:
    """What fired is in the verdict, in the report and in the table of checks."""
    gate = gpu_run(lab, facts={"outputs_finite": False})
    assert gate["invest"]["verdict"] == "INCONCLUSIVE"
    assert "- **blocking** `output_not_finite` on sdpa/S128" in text(lab)
    assert "- warning `selects_everything` on sdpa at S = 128" in text(lab)
    table, _ = parquet.read(lab.layout.checks, ChecksHeader, CHECKS)
    assert sum(table["fired"].to_pylist()) == len(gate["anomalies"])


def test_decode_csv_begins_with_the_guides_columns(finished: Lab) -> None:
    """The guide's columns come first, in its order."""
    lines = (finished.root / "decode.csv").read_text().splitlines()
    assert lines[0].startswith("S,ms_total,ms_cmp,ms_sel,ms_win,reads_actual,reads_expected,backend,status")
    assert len(lines) == 1 + 8


def test_the_figure_is_drawn_for_documents(finished: Lab) -> None:
    """The figure is a PNG, and an SVG beside it."""
    figures = finished.layout.figures
    assert (figures / "decode_breakdown.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (figures / "decode_breakdown.svg").read_text()


def test_when_nothing_ran_the_report_says_so(lab: Lab) -> None:
    """A run on the wrong machine ends in a report with reasons."""
    gate = lab.render([lab.cell("sdpa", S, status="unavailable") for S in (128, 2048)], draws=True)
    assert gate["invest"]["reason"] == "At every target context: sdpa is unavailable (sdpa is not here)."
    assert "No cell ran, so there are no figures." in text(lab)
    assert "No figure is drawn: nothing ran." in text(lab)
    assert not (lab.root / "figures" / "decode_breakdown.png").exists()


def test_the_last_good_report_is_kept_aside(lab: Lab) -> None:
    """Snakemake deletes the report before its rule runs; the last good one is kept beside it."""
    previous = lab.root / "gate_report.previous.md"
    gpu_run(lab)
    first = text(lab)
    assert not previous.exists()
    lab.layout.report.unlink()  # as Snakemake does
    gpu_run(lab, parts={"sel": 0.002})
    assert previous.read_text() == first
    assert text(lab) != first


def test_a_failed_build_shows_the_end_of_its_log(lab: Lab) -> None:
    """The last lines of a compiler's log are shown, where its error is."""
    lab.render([lab.cell("sdpa", 128)], build="failed")
    assert "CUDA build: failed (no nvcc). Fix: install CUDA." in text(lab)
    assert "\nline 49\n```" in text(lab)
    assert "\nline 29\n" not in text(lab)


def test_without_a_build_the_report_says_so(lab: Lab) -> None:
    """A run that asks for no CUDA kernel has no build among its artifacts."""
    lab.render([])
    report(lab.layout.environment, [], [], [], lab.stamps, lab.config, lab.root, accepted=lab.accepted)
    assert "CUDA build: not asked for." in text(lab)


def test_a_broken_build_is_one_clear_error(lab: Lab) -> None:
    """A manifest that does not say what became of the build is named."""
    lab.render([])
    manifest = lab.layout.artifact("build/cuda.json")
    manifest.write_text('{"library": "x.so"}')
    with pytest.raises(RecordError, match=r"build/cuda\.json: status: Field required"):
        report(lab.layout.environment, [manifest], [], [], lab.stamps, lab.config, lab.root)


def test_a_missing_environment_is_one_clear_error(lab: Lab) -> None:
    """A report without its machine is not reproducible, so there is none."""
    with pytest.raises(RecordError, match=r"environment\.json: cannot be read"):
        report(lab.layout.environment, [], [], [], {}, lab.config, lab.root)


def test_one_process_is_shown_as_such(lab: Lab) -> None:
    """One replicate has no interval, on the page and in JSON."""
    gate = gpu_run(lab, processes=1)
    assert "too few replicates" in gate["invest"]["reason"]
    assert "(1 process)" in text(lab)
    assert gate["invest"]["contexts"][0]["share"]["low"] is None  # JSON has no infinity
    assert json.loads((lab.layout.gate).read_text()) == gate


def test_gate_json_says_what_the_report_was_made_from(lab: Lab) -> None:
    """Its config and flags make the same configuration again; its rows keep the flat columns of the summary."""
    flagged = lab.config.model_copy(update={"flags": Flags({"NSA_SEL_CUDA": True})})
    lab = replace(lab, config=flagged)
    lab.render([lab.cell("sdpa", 128), lab.cell("cuda", 128, status="oom")])
    gate = json.loads(lab.layout.gate.read_text())
    assert recorded(gate, lab.layout.gate) == flagged
    assert gate["flags"] == {"NSA_SEL_CUDA": True}
    ran, failed = gate["decode"]
    assert ran["ms_total_lo"] < ran["ms_total"] < ran["ms_total_hi"]
    assert (ran["aa_cells"], ran["aa_confidence"], ran["window"]) == (1, 0.95, 512)
    assert (failed["status"], failed["ms_total"], failed["aa_run_lo"]) == ("oom", None, None)
    assert set(ran) == set(failed)


def test_a_variant_that_is_wrong_or_refuses_is_told(lab: Lab) -> None:
    """A packed variant does not leave silently: it stands among the anomalies, and in its table."""
    one = {"value_dim": 64, "sel_count": 8, "backend": "sdpa:varlen"}
    left = LeftOut(name="sdpa:varlen", shape="N=256 h=4 D=64 Dv=64 n=8", reason="v: got Dv = 64")
    refuses = {"drop": one, "facts": {"left_out": (left,)}}
    gate = lab.render(
        [lab.cell("sdpa", S) for S in (128, 2048)],
        [lab.check("cuda", alter=({**one, "seed": 0}, {"mae": 0.5})), lab.check("sdpa", **refuses)],
    )
    assert gate["accept"]["cuda"]["verdict"] == "INCONCLUSIVE"
    assert "- **blocking** `packed_variant_wrong` on check_cuda: varlen on N=256 h=4 D=64 Dv=64 n=8: MAE 0.5" in text(
        lab
    )
    assert "- warning `packed_variant_refused` on check_sdpa: varlen on N=256 h=4 D=64 Dv=64 n=8: v: got Dv" in text(
        lab
    )
    assert "| – | refused |" in text(lab)
    assert "### sdpa: packed SDPA's variants" in text(lab)
    assert said_of(lab.layout.gate).lines[1].startswith("accept cuda: INCONCLUSIVE.")


def test_text_cannot_break_a_table_or_open_a_tag() -> None:
    """A reason may hold anything: it neither ends a cell of a table nor opens a tag."""
    assert plain("a|b\n<script> 1 < 2") == "a\\|b &lt;script> 1 < 2"


def test_the_report_needs_no_torch(lab: Lab) -> None:
    """The report imports neither torch nor what it does not need."""
    code = (
        "import sys, nsa.report.page.render, nsa.report.page.guide\n"
        "slow = {'torch', 'matplotlib', 'scipy.stats', 'nsa.bench', 'nsa.kernels', 'nsa.attention'}\n"
        "sys.exit(', '.join(slow & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stderr.strip() == ""


def test_each_cell_may_be_of_another_card(lab: Lab) -> None:
    """Two cards of one model are alike: the report says which measured what."""
    card = GPU.model_copy(update={"uuid": "GPU-1"})
    path = lab.cell("sdpa", 128, alter=({"device": "cuda"}, {"device_uuid": "GPU-1"}), facts={"device": card})
    gate = lab.render([path, lab.cell("sdpa", 2048)])
    assert [row["status"] for row in gate["decode"]] == ["ok", "ok"]
    assert "GPU-0: sdpa at S = 2048; GPU-1: sdpa at S = 128" in text(lab)
