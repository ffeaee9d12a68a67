"""results/roofline.md from synthetic records: what counts as met, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from raced import LARGE, SETTINGS, SMALL, TODAY, Row, altered, made, write
from synthetic import ABOUT, GPU, OLD, Rows

from nsa.config import Target
from nsa.records.words import Scalar
from nsa.report.analysis.roofline import RooflineReport
from nsa.report.page.roofline import report


def page(folder: Path, path: Path, settings: RooflineReport = SETTINGS) -> str:
    """The rendered page."""
    report(path, TODAY, settings, folder / "roofline.md")
    return (folder / "roofline.md").read_text()


def tables(text: str) -> list[list[dict[str, str]]]:
    """Every table of a page, a row as header to cell; of two equal headers the second has a 2."""
    found: list[list[dict[str, str]]] = []
    for block in text.split("\n\n"):
        if block.startswith("| "):
            header, _, *lines = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in block.splitlines())
            names = [name + "2" * header[:place].count(name) for place, name in enumerate(header)]
            found.append([dict(zip(names, line, strict=True)) for line in lines])
    return found


def test_the_table_says_what_is_met_and_by_how_much(tmp_path: Path) -> None:
    """Each backend has its columns: the time, its target, and by how much it is met or missed."""
    shapes, _ = tables(page(tmp_path, write(tmp_path)))
    assert [(row["N"], row["h"], row["D"], row["n"]) for row in shapes] == [
        ("4", "4", "64", "8"),
        ("1024", "4", "128", "16"),
    ]
    small, large = shapes
    assert (small["floor µs"], large["floor µs"]) == ("0.131", "134")
    assert small["cuda µs"].startswith("7.00 [6.") and large["cuda µs"].startswith("160 [15")
    assert (small["cuda target µs"], small["cuda target"]) == ("7.14", "met by 0.14")
    assert (large["cuda target µs"], large["cuda target"]) == ("155", "missed by 5.4")
    assert (large["triton target µs"], large["triton target"]) == ("177", "met by 6.8")
    assert (large["cuda × floor"], large["cuda × packed"], large["cuda × public"]) == ("1.19", "6.25", "0.941")
    assert (large["public µs for cuda"], large["public µs for triton"]) == (
        "150.5",
        "150.9",
    )  # FlashInfer is not Triton
    assert "sdpa × packed" not in small and "sdpa target" not in small
    assert small["fa2"] == large["fa2"] == "unavailable"


def test_the_summary_counts_and_averages(tmp_path: Path) -> None:
    """Rows within the target are counted, and ratios averaged geometrically over the shapes."""
    _, lines = tables(page(tmp_path, write(tmp_path)))
    cuda = {row["N"]: row for row in lines if row["backend"] == "cuda"}
    assert list(cuda) == ["all", "4", "1024"]
    assert cuda["all"]["within target"] == "1 of 2 (0)"  # its interval reaches beyond the target
    assert cuda["all"]["worst miss µs"] == f"5.4 ({LARGE})"
    assert cuda["4"]["worst miss µs"] == "none"
    assert cuda["all"]["× packed"].startswith(f"{math.sqrt(32 / 7 * 1000 / 160):.2f} [")
    assert cuda["all"]["× packed"].endswith("(rows: 2)") and cuda["all"]["least"] == "4.57"
    assert cuda["all"]["× public"].startswith(f"{math.sqrt(11.4 / 7 * 150.5 / 160):.2f} [")
    assert cuda["all"]["least2"] == "0.941"
    triton = next(row for row in lines if row["backend"] == "triton")
    assert triton["within target"] == "1 of 2 (1)"
    assert not any(row["backend"] in ("sdpa", "fa2") for row in lines)


def test_the_page_says_what_it_stands_on(tmp_path: Path) -> None:
    """The page names the bandwidth, the empty graph, the targets, the commit, and where public figures are from."""
    text = page(tmp_path, write(tmp_path, facts={"other_processes": (12,)}))
    assert "NVIDIA H200, bfloat16, l' = 64, S = 4096, G = 4, Dv = D. Processes: 3, with 3 calls of each" in text
    assert "over 4.000 TB/s, the copy bandwidth of this run (3.900 to 4.100" in text
    assert "An empty graph reads 3.40 [3." in text
    assert "`cuda` 1.1 × floor + 7 µs, `triton` 1.25 × floor + 9 µs" in text
    assert "- `fa2`: unavailable (it is guarded). Fix: set NSA_FA2_FORCE=1." in text
    assert "**another run** (NVIDIA H200, 2026-11, " in text and "FlashInfer" in text
    assert "**Warning**: processes 12 were on the GPU, too." in text
    assert f"Measured {ABOUT.utc_time} at commit abc123." in text


@pytest.mark.parametrize(
    ("rows", "facts"),
    [
        (made(), {"device": GPU}),
        (altered(lambda row: {**row, "context": 8192} if row.get("rows") else row), {}),
    ],
    ids=["another GPU", "another context"],
)
def test_public_figures_belong_to_their_machine_and_shapes(
    rows: Rows, facts: dict[str, object], tmp_path: Path
) -> None:
    """Figures of public kernels are shown for their model of GPU and their shapes only."""
    text = page(tmp_path, write(tmp_path, rows, facts))
    assert "public µs" not in text and "another run" not in text
    assert all(row["× public"] == row["least2"] == "–" for row in tables(text)[1])


@pytest.mark.parametrize(
    ("wrong", "cell"),
    [
        ({"oracle_error": 5e-3}, "WRONG: oracle error 0.005 > 2 x 0.0019 of packed SDPA"),
        ({"oracle_error": math.nan}, "WRONG: oracle error nan > 2 x 0.0019 of packed SDPA"),
        ({"mae": 2e-3}, "WRONG: MAE 0.002 > 0.001"),
        ({"fault": "the output is not finite"}, "WRONG: fault: the output is not finite"),
    ],
)
def test_a_wrong_kernel_has_no_time(wrong: dict[str, Scalar], cell: str, tmp_path: Path) -> None:
    """A kernel that is wrong on a shape, in one process of three even, has no time there."""

    def spoil(row: Row) -> Row:
        guilty = row["backend"] == "cuda" and row.get("rows") == 1024 and row.get("seed") == 1
        return {**row, **wrong} if guilty else row

    shapes, lines = tables(page(tmp_path, write(tmp_path, altered(spoil))))
    assert shapes[1]["cuda µs"] == cell
    assert shapes[1]["cuda × floor"] == shapes[1]["cuda target"] == shapes[1]["cuda × packed"] == "–"
    assert lines[0]["within target"] == "1 of 2 (0)" and lines[0]["× packed"].endswith("(rows: 1)")
    assert shapes[0]["cuda target"] == "met by 0.14"


def test_a_refused_shape_says_why(tmp_path: Path) -> None:
    """A shape that a backend does not take says why, and is not within the target."""

    def refuse(row: Row) -> Row | None:
        if row["backend"] != "triton" or row["rows"] != 4:
            return row
        names = [*vars(SMALL), "backend", "process", "sel_block", "context", "groups", "dtype", "selected_bytes"]
        refused = {**{name: row[name] for name in names}, "fault": "refused: q: got h = 4"}
        return refused if row.get("seed") is not None else None

    shapes, lines = tables(page(tmp_path, write(tmp_path, altered(refuse))))
    assert shapes[0]["triton µs"] == "refused: q: got h = 4" and shapes[0]["triton × packed"] == "–"
    assert next(row for row in lines if row["backend"] == "triton")["within target"] == "1 of 2 (1)"


def test_one_process_bounds_nothing(tmp_path: Path) -> None:
    """A single process has no interval, and is not surely within the target."""
    shapes, lines = tables(page(tmp_path, write(tmp_path, made((1.0,)), processes=1)))
    assert shapes[0]["cuda µs"] == "7.00 (1 process)"
    assert lines[0]["within target"] == "1 of 2 (0)"


def test_a_target_that_is_changed_changes_the_verdict(tmp_path: Path) -> None:
    """The targets of the settings are those that are met or missed."""
    easy = SETTINGS.model_copy(update={"targets": {"cuda": Target(ratio=1.10, plus_us=20.0)}})
    shapes, lines = tables(page(tmp_path, write(tmp_path), easy))
    assert shapes[1]["cuda target"] == "met by 7.6" and "triton target" not in shapes[1]
    assert lines[0]["within target"] == "2 of 2 (2)"


def test_without_a_measurement_the_page_is_one_honest_sentence(tmp_path: Path) -> None:
    """A machine without a GPU makes a page of one sentence, without anything like a figure."""
    text = page(tmp_path, write(tmp_path, [], status="unavailable"))
    title, sentence, end = text.partition("\n\n")
    assert title.startswith("# ") and sentence
    assert end == "**NOT MEASURED**: unavailable (None is not here); run on a GPU.\n"


def test_a_broken_record_has_no_figures(tmp_path: Path) -> None:
    """An INVALID record makes a page that says why, without a table."""
    text = page(tmp_path, write(tmp_path, facts={"bandwidth_bytes_per_s": ()}))
    assert "**NOT MEASURED**: INVALID" in text and "bandwidth_bytes_per_s" in text and "|" not in text


def test_yesterdays_figures_are_stale(tmp_path: Path) -> None:
    """The times of a kernel that no longer exists do not stand in the table."""
    report(write(tmp_path), {"roofline": OLD}, SETTINGS, tmp_path / "roofline.md")
    text = (tmp_path / "roofline.md").read_text()
    assert "**NOT MEASURED**: STALE (sources changed since it was measured)" in text
