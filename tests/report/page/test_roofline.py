"""results/roofline.md from synthetic records: the maths, what counts as met, and what is refused."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import ABOUT, GPU, OLD, STAMP, Rows, header, replicate

from nsa.config import Target
from nsa.errors import ConfigError
from nsa.records import parquet, schemas
from nsa.records.facts import RooflineFacts, State
from nsa.records.parquet import Scalar
from nsa.report.analysis.kernel import GridShape, Tolerance
from nsa.report.analysis.roofline import PUBLIC, RooflineReport, read_roofline, roofline
from nsa.report.page.roofline import report
from nsa.settings import parse

H200 = GPU.model_copy(update={"name": "NVIDIA H200"})
TODAY = {"roofline": STAMP}
SETTINGS = RooflineReport(
    targets={"cuda": Target(ratio=1.10, plus_us=7.0), "triton": Target(ratio=1.25, plus_us=9.0)},
    correct=Tolerance(mae=1e-3, error_ratio=2.0),
    confidence=0.95,
)
Row = dict[str, Scalar]
SMALL, LARGE = GridShape(4, 4, 64, 64, 8), GridShape(1024, 4, 128, 128, 16)
FLOORS_US = {SMALL: 4 * 512 * 128 * 2 / 4e6, LARGE: 1024 * 1024 * 256 * 2 / 4e6}  # 0.13 and 134 µs
TIMES_US = {
    ("sdpa", SMALL): 32.0,
    ("sdpa", LARGE): 1000.0,
    ("cuda", SMALL): 7.0,  # the target is 7.14
    ("cuda", LARGE): 160.0,  # the target is 154.6
    ("triton", SMALL): 12.0,
    ("triton", LARGE): 170.0,
}
OK = State(status="ok")
FA2 = State(status="unavailable", reason="it is guarded", fix="set NSA_FA2_FORCE=1")


def made(pace: tuple[float, ...] = (0.99, 1.0, 1.01)) -> Rows:
    """A sound run: every process has its own pace, and one slow outlier on each shape that a median must not see."""
    rows: Rows = []
    for (backend, shape), time_us in TIMES_US.items():
        row = {**vars(shape), "backend": backend, "sel_block": 64, "context": 4096, "groups": 4, "dtype": "bfloat16"}
        row |= {"selected_bytes": round(FLOORS_US[shape] * 4e6)}
        for process, factor in enumerate(pace):
            for value_us in (time_us, time_us, 50 * time_us):
                rows.append({**row, "process": process, "order": 0, "value_ns": round(1e3 * factor * value_us)})
            right = {"mae": 1e-5, "oracle_error": 2e-3, "sdpa_oracle_error": 1.9e-3}
            rows.append({**row, "process": process, "seed": process, **right})
    for process, factor in enumerate(pace):
        rows += [{"backend": "empty", "process": process, "value_ns": round(3400 * factor)} for _ in range(3)]
    return rows


def write(
    folder: Path,
    rows: Rows | None = None,
    facts: dict[str, object] | None = None,
    said: dict[str, object] | None = None,
    status: str = "ok",
    processes: int = 3,
) -> Path:
    """A record with these rows, and with what differs from a sound record's facts and header."""
    known = RooflineFacts(
        device=H200,
        flush="write 256 MiB, read 256 MiB",
        bandwidth_bytes_per_s=(3.9e12, 4.1e12) * processes,
        replicates=tuple(replicate(process) for process in range(processes)),
        other_processes=(),
        notes=(),
        backends={"sdpa": OK, "cuda": OK, "triton": OK, "fa2": FA2},
    ).model_copy(update=facts or {})
    path = folder / "roofline.parquet"
    about = {"device": known.device, **(said or {})}
    made_of = header("roofline", None, "cuda", status, known, said=about)
    parquet.write(path, made() if rows is None else rows, schemas.ROOFLINE, made_of)
    return path


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


def altered(change: Callable[[Row], Row | None]) -> Rows:
    """The sound rows with this change; rows that become None are left out."""
    return [new for row in made() if (new := change(dict(row))) is not None]


def test_the_maths_by_hand(tmp_path: Path) -> None:
    """Breaks if a median becomes a mean, the floor loses a factor, or a ratio is upside down."""
    found = roofline(read_roofline(write(tmp_path), TODAY), SETTINGS)
    assert found.bandwidths == (3.9e12, 4.1e12) * 3
    assert found.empty_us.value == pytest.approx(3.4, rel=1e-3)
    (small, large) = found.figures["cuda"]
    assert (small.shape, large.shape) == (SMALL, LARGE)
    for figure, time_us, packed_us in ((small, 7.0, 32.0), (large, 160.0, 1000.0)):
        assert figure.floor_us == pytest.approx(FLOORS_US[figure.shape])
        assert figure.time_us is not None and figure.time_us.value == pytest.approx(time_us, rel=1e-3)
        assert figure.time_us.low < time_us < figure.time_us.high
        assert figure.target_us == pytest.approx(1.10 * FLOORS_US[figure.shape] + 7.0)
        assert figure.excess_us == pytest.approx(time_us - (1.10 * FLOORS_US[figure.shape] + 7.0), abs=0.02)
        assert list(figure.over_packed) == pytest.approx([packed_us / time_us] * 3, rel=1e-3)  # paired: pace cancels
    assert list(small.over_public) == pytest.approx([11.4 / 7 / pace for pace in (0.99, 1.0, 1.01)], rel=1e-3)


def test_the_table_says_what_is_met_and_by_how_much(tmp_path: Path) -> None:
    """Breaks if a missed target passes for met, or a backend's columns belong to another."""
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
    """Breaks if a miss is not counted, or the mean over shapes is not the geometric one."""
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
    """Breaks if a reader cannot tell the bandwidth, the method's floor, the commit, or where another's figures are from."""
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
    """Breaks if a 4090 is compared with what an H200 did, or another context with the one that was measured."""
    text = page(tmp_path, write(tmp_path, rows, facts))
    assert "public µs" not in text and "another run" not in text
    assert all(row["× public"] == row["least2"] == "–" for row in tables(text)[1])


def test_the_public_figures_are_whole() -> None:
    """Breaks if a figure is mistyped away: 12 shapes for h of 4, 8 and 16, and Triton's but where none is known."""
    rows = list(csv.DictReader(PUBLIC.read_text().splitlines()))
    keys = [tuple(row[key] for key in ("among", "rows", "heads_per_group", "head_dim", "sel_count")) for row in rows]
    assert len(set(keys)) == len(keys) == 36 + 33
    best = {key[1:]: float(row["time_us"]) for key, row in zip(keys, rows, strict=True) if key[0] == "any"}
    for key, row in zip(keys, rows, strict=True):
        assert float(row["time_us"]) >= best[key[1:]]
        assert key[0] == "any" or "Triton" in row["kernel"]
    assert not any(key[:2] == ("triton", "64") and key[3:] == ("128", "16") for key in keys)
    assert all(row["machine"] == "NVIDIA H200" and row["date"] and row["method"] and row["source"] for row in rows)


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
    """Breaks if a kernel that computes something else is praised for its speed, in one process of three even."""

    def spoil(row: Row) -> Row:
        guilty = row["backend"] == "cuda" and row.get("rows") == 1024 and row.get("seed") == 1
        return {**row, **wrong} if guilty else row

    shapes, lines = tables(page(tmp_path, write(tmp_path, altered(spoil))))
    assert shapes[1]["cuda µs"] == cell
    assert shapes[1]["cuda × floor"] == shapes[1]["cuda target"] == shapes[1]["cuda × packed"] == "–"
    assert lines[0]["within target"] == "1 of 2 (0)" and lines[0]["× packed"].endswith("(rows: 1)")
    assert shapes[0]["cuda target"] == "met by 0.14"


def test_a_refused_shape_says_why(tmp_path: Path) -> None:
    """Breaks if a shape that a backend does not take vanishes, or counts as within the target."""

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
    """Breaks if a single process is shown with an interval, or as surely within the target."""
    shapes, lines = tables(page(tmp_path, write(tmp_path, made((1.0,)), processes=1)))
    assert shapes[0]["cuda µs"] == "7.00 (1 process)"
    assert lines[0]["within target"] == "1 of 2 (0)"


def test_a_target_that_is_changed_changes_the_verdict(tmp_path: Path) -> None:
    """Breaks if the targets of config.yaml are shown and not used."""
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


Change = Callable[[Row], Row | None]


@pytest.mark.parametrize(
    ("facts", "rows", "named"),
    [
        ({"bandwidth_bytes_per_s": (4e12, math.nan)}, None, "bandwidth_bytes_per_s"),
        ({"bandwidth_bytes_per_s": ()}, None, "bandwidth_bytes_per_s"),
        ({"bandwidth_bytes_per_s": (4e12, 0.0)}, None, "bandwidth_bytes_per_s"),
        ({"backends": {"cuda": OK}}, None, "sdpa, the reference"),
        ({}, lambda row: {**row, "selected_bytes": None}, "selected_bytes"),
        ({}, lambda row: {**row, "value_ns": 0} if row.get("value_ns") else row, "value_ns"),
        ({}, lambda row: None if row["backend"] == "empty" else row, "empty was not timed"),
        ({}, lambda row: {**row, "dtype": "float16"} if row["process"] == 1 else row, "dtype is 'bfloat16' in some"),
        ({}, lambda row: {**row, "context": 64} if row["process"] == 1 else row, "context is 4096"),
        ({}, lambda row: {**row, "process": 5} if row["process"] == 1 else row, "process is [0, 2, 5]"),
        ({"device": GPU}, None, "device.name"),
    ],
)
def test_a_record_that_no_figure_can_be_made_of_is_invalid(
    facts: dict[str, object], rows: Change | None, named: str, tmp_path: Path
) -> None:
    """A NaN, a zero, a missing part and rows of another run are INVALID by name, and give no figure."""
    said = {"device": H200} if "device" in facts else {}
    text = page(tmp_path, write(tmp_path, altered(rows) if rows else None, facts, said))
    assert "**NOT MEASURED**: INVALID" in text and named in text and "|" not in text


def test_a_record_of_another_stage_is_invalid(tmp_path: Path) -> None:
    """A file of another stage says so."""
    assert "stage is 'check'" in page(tmp_path, write(tmp_path, said={"stage": "check"}))


def test_yesterdays_figures_are_stale(tmp_path: Path) -> None:
    """The times of a kernel that no longer exists do not stand in the table."""
    report(write(tmp_path), {"roofline": OLD}, SETTINGS, tmp_path / "roofline.md")
    text = (tmp_path / "roofline.md").read_text()
    assert "**NOT MEASURED**: STALE (sources changed since it was measured)" in text


def test_the_settings_are_those_of_the_stamp() -> None:
    """Targets, tolerance and confidence are read from the stamp's settings; one that is missing is named."""
    targets: dict[str, dict[str, float]] = {name: target.model_dump() for name, target in SETTINGS.targets.items()}
    stamped: dict[str, object] = {"targets": targets, "correct": {"mae": 1e-3, "error_ratio": 2.0}, "confidence": 0.95}
    assert parse(RooflineReport, stamped, "roofline-report.json") == SETTINGS
    with pytest.raises(ConfigError, match=r"roofline-report\.json.*confidence"):
        parse(RooflineReport, {key: stamped[key] for key in ("targets", "correct")}, "roofline-report.json")
