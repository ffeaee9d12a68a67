"""The page in Chromium: nothing fails, no request, no overflow, and all can be read and reached."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
from states import STATES

from nsa.report.page.tables import significant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

    from tests.report.conftest import Lab

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e .[dev]")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: apt-get install chromium")
WIDTHS = (360, 800, 1280, 1920)
AA = 4.5  # WCAG 2: the contrast of text with what is behind it; large text needs 3
# The text nodes whose contrast is below AA, each with its ratio; a background is that of the nearest ancestor that has
# one. Text of a plot lies on the page's ground, but for the labels on parts.
CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const x = c[i] / 255; return sum + weight * (x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return rgb("white");
  };
  const root = getComputedStyle(document.documentElement);
  const found = [];
  const judge = (text, ink, ground, large) => {
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) found.push([text.slice(0, 40), Math.round(100 * ratio) / 100]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script,style,svg")) continue;
    const style = getComputedStyle(element), size = parseFloat(style.fontSize);
    judge(text, rgb(style.color), behind(element), size >= 24 || (size >= 18.66 && style.fontWeight >= 700));
  }
  for (const element of document.querySelectorAll(".plot svg text")) {
    const on = ["fixed", "cmp", "route", "sel", "win"].includes(element.textContent)
      && element.parentElement.getAttribute("fill") === "var(--on-part)";
    const grounds = on ? [root.getPropertyValue("--" + element.textContent)] : null;
    judge(element.textContent, rgb(getComputedStyle(element).fill), grounds ? rgb(grounds[0]) : behind(element), false);
  }
  return found;
}"""

# The words of a plot that leave it, where they would be cut off.
CUT_OFF = """() => [...document.querySelectorAll(".plot svg text")].filter((text) => {
  const own = text.getBoundingClientRect(), plot = text.ownerSVGElement.getBoundingClientRect();
  return own.width && (own.left < plot.left - 1 || own.right > plot.right + 1);
}).map((text) => text.textContent)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests; without a sandbox, which a container has no right to make."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, shown: Callable[[str], Lab], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of the state that the test names; whatever fails or is asked of the network fails the test."""
    page, faults = chromium.new_page(), []
    page.on("console", lambda said: faults.append(said.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: faults.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    page.goto(shown(request.param).layout.html.as_uri())
    page.wait_for_timeout(100)
    yield page
    page.close()
    assert faults == []


def gate(page: Page) -> dict[str, object]:
    """What gate.json beside the page says."""
    from pathlib import Path
    from urllib.parse import urlparse

    return json.loads((Path(urlparse(page.url).path).parent / "gate.json").read_text())


@pytest.mark.parametrize("open_page", STATES, indirect=True)
def test_it_fits_and_can_be_read_at_every_width_in_both_themes(open_page: Page) -> None:
    """The page never scrolls sideways, its plots are drawn and cut no word off, and all text has AA's contrast."""
    drawn = "[...document.querySelectorAll('[data-plot]')].every((place) => place.querySelector('svg'))"
    for theme in ("light", "dark"):
        open_page.emulate_media(color_scheme=theme)
        for width in WIDTHS:
            open_page.set_viewport_size({"width": width, "height": 900})
            open_page.wait_for_timeout(150)  # for plots to be drawn anew
            assert open_page.evaluate("document.documentElement.scrollWidth") <= width, (theme, width)
            assert open_page.evaluate(drawn)
            assert open_page.evaluate(CUT_OFF) == [], (theme, width)
        open_page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert open_page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[-1]
        assert open_page.evaluate(CONTRAST) == []


@pytest.mark.parametrize("open_page", ["mixed"], indirect=True)
def test_figures_are_those_of_the_records(open_page: Page) -> None:
    """Cards, table and heat map show what gate.json holds."""
    said = gate(open_page)
    assert open_page.locator(".card .verdict").all_inner_texts() == [
        said["invest"]["verdict"],
        *(found["verdict"] for found in [*said["accept"].values(), *said["cores"].values()]),
    ]
    lines = open_page.locator("#time table").first.locator("tbody tr").all()
    rows = {(str(row["S"]), row["backend"]): row for row in said["decode"]}
    assert len(lines) == len(rows)
    for line in lines:
        shown = line.locator("td").all_inner_texts()
        row = rows[shown[0], shown[1]]
        for text, key in zip(shown[2:6], ("ms_total", "cmp_pct", "sel_pct", "win_pct"), strict=True):
            assert float(text.split(" ")[0]) == pytest.approx(row[key], rel=6e-3), key
    for backend, found in said["accept"].items():
        speeds = [
            "wrong" if shape["correct"] is False else significant(shape["figures"]["speedup"]["value"])
            for shape in found["shapes"]
        ]
        table = open_page.locator(f"#kernel-{backend} ~ .scroll table.heat").first
        assert sorted(table.locator("tbody td").all_inner_texts()) == sorted(speeds)


@pytest.mark.parametrize("open_page", ["mixed"], indirect=True)
def test_everything_is_reached_and_works_by_keyboard(open_page: Page) -> None:
    """Tab reaches each link, button, fold and scrolling table; Enter sorts, unfolds and changes the theme."""
    reached = "a[href],button,summary,[tabindex='0']"
    count = open_page.evaluate(
        f'[...document.querySelectorAll("{reached}")].filter((each) => each.checkVisibility()).length'
    )
    seen = set()
    for _ in range(count + 5):
        open_page.keyboard.press("Tab")
        seen.add(open_page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert len(seen - {-1, 2}) >= count
    header = open_page.locator("#time table").first.locator("th").nth(2)
    for order in ("ascending", "descending"):
        header.locator("button").press("Enter")
        assert header.get_attribute("aria-sort") == order
        texts = open_page.locator("#time table").first.locator("tbody tr td:nth-child(3)").all_inner_texts()
        totals = [float(text.split(" ")[0]) for text in texts]
        assert totals == sorted(totals, reverse=order == "descending")
    fold = open_page.locator("details").first
    fold.locator("summary").press("Enter")
    assert fold.get_attribute("open") is not None
    before = open_page.evaluate("getComputedStyle(document.body).backgroundColor")
    open_page.locator("#theme").press("Enter")
    assert open_page.evaluate("getComputedStyle(document.body).backgroundColor") != before


@pytest.mark.parametrize("open_page", ["mixed"], indirect=True)
def test_each_shape_of_a_core_is_seen_with_its_verdict(open_page: Page) -> None:
    """The widest table that is not folded fits where a laptop shows it, so its last column is not cut off."""
    open_page.set_viewport_size({"width": 1280, "height": 900})
    assert open_page.evaluate(
        "[...document.querySelectorAll('#cores .scroll')].map((each) => each.scrollWidth - each.clientWidth)"
    ) == [0]


@pytest.mark.parametrize("open_page", ["broken"], indirect=True)
def test_a_share_that_decides_nothing_says_so(open_page: Page) -> None:
    """A blocked cell's share stands beyond the threshold of GO: its line and its bar say that a check blocks it."""
    assert open_page.locator("#gate-invest .line .label").all_inner_texts() == ["S = 128 ✕ blocked"]
    assert "✕ blocked" in open_page.locator('[data-plot="parts"] svg text').all_text_contents()


@pytest.mark.parametrize("open_page", ["mixed"], indirect=True)
def test_the_speed_of_a_wrong_kernel_is_drawn_as_what_does_not_count(open_page: Page) -> None:
    """A speedup beyond the threshold on a card that rejects is explained where it is drawn."""
    captions = {name: open_page.locator(f"#gate-accept-{name} figcaption").inner_text() for name in ("fa2", "triton")}
    assert captions["fa2"].endswith("results are wrong, so no speed counts")
    assert captions["triton"].endswith("packed SDPA")


# Texts of the plots that lie beyond the place that shows them.
CUT_OFF = """() => [...document.querySelectorAll("[data-plot]")].flatMap((place) => {
  const shown = place.getBoundingClientRect();
  return [...place.querySelectorAll("svg text")].filter((each) => {
    const at = each.getBoundingClientRect();
    return at.left < shown.left - 1 || at.right > shown.right + 1;
  }).map((each) => each.textContent);
})"""


@pytest.mark.parametrize("open_page", ["many", "mixed", "broken"], indirect=True)
def test_no_text_of_a_plot_is_cut_off(open_page: Page) -> None:
    """The longest contexts and backends are whole beside their bars, and so is what stands at a bar's end."""
    for width in WIDTHS:
        open_page.set_viewport_size({"width": width, "height": 900})
        open_page.wait_for_timeout(150)
        assert open_page.evaluate(CUT_OFF) == [], width


@pytest.mark.parametrize("open_page", ["mixed"], indirect=True)
def test_parts_that_do_not_add_up_are_drawn_apart(open_page: Page) -> None:
    """Their bars say by how much they miss the step, and the page says what that means."""
    texts = open_page.locator('[data-plot="parts"] svg text').all_text_contents()
    assert sum(text.startswith("≠ +") for text in texts) == 2  # of fused at both contexts
    assert "do not add up" in open_page.locator("#time").inner_text()


@pytest.mark.parametrize("open_page", ["broken"], indirect=True)
def test_what_did_not_run_is_marked_in_its_place(open_page: Page) -> None:
    """Cells that failed or had no memory stand among the bars, and in the list with what to do."""
    plot = open_page.locator('[data-plot="parts"] svg')
    assert plot.locator("text").all_text_contents().count("✕ oom") == 2
    assert "failed" in open_page.locator("#time .missing").inner_text()
