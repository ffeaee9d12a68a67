"""The page as text: complete, offline, and safe whatever a record says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from nsa.report.page.html.page import code, numeric
from nsa.report.page.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.report.conftest import Lab

EVIL = '</script><script>alert(1)</script> "quoted" & `make`'


class Elements(HTMLParser):
    """The elements of a page with their attributes, and which ids there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def values(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.found if attrs.get(attribute)]


@pytest.fixture(scope="module")
def page(shown: Callable[[str], Lab]) -> Elements:
    """The page of a run with mixed verdicts."""
    return Elements(shown("mixed").layout.html.read_text())


def test_nothing_is_loaded_from_elsewhere(page: Elements) -> None:
    """Every style, script and picture is inside the file; links stay within the page."""
    assert page.values("src") == []
    assert {link for link in page.values("href") if not link.startswith(("#", "data:"))} == set()
    assert [attrs["href"] for tag, attrs in page.found if tag == "link"] == ["data:,"]


def test_anchors_lead_somewhere_and_are_unique(page: Elements) -> None:
    """Every link within the page has its target, once."""
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(ids)


def test_a_reason_cannot_end_the_script_or_open_a_tag(lab: Lab) -> None:
    """Whatever a record's reason holds is text on the page."""
    lab.render([lab.cell("sdpa", 128), lab.cell("cuda", 128, status="failed", said={"outcome": failed(EVIL)})])
    text = lab.layout.html.read_text()
    assert "alert(1)" in text
    assert "<script>alert" not in text
    assert text.count("<script") == text.count("</script>") == 5


def test_blocking_checks_are_named_beside_the_verdicts(lab: Lab) -> None:
    """What blocks a record is said before the sections; a run that nothing blocks has no such line."""
    said = "<b>Blocking checks fired:</b> output_not_finite on sdpa/S128;"
    for facts, fired in (({"outputs_finite": False}, True), ({}, False)):
        lab.render([lab.cell("sdpa", 128, facts=facts)])
        text = lab.layout.html.read_text()
        assert (said in text) == ("Blocking checks fired" in text) == fired


@pytest.mark.parametrize(("device", "said"), [("cuda", False), ("cpu", True)])
def test_a_share_of_a_cpu_says_that_it_decides_nothing(lab: Lab, device: str, said: bool) -> None:
    """Thresholds beside a CPU's share must not look like a verdict."""
    lab.render([lab.cell("sdpa", S, device=device) for S in lab.config.contexts])
    assert ("share on a CPU (%), which decides nothing" in lab.layout.html.read_text()) == said


def failed(reason: str) -> object:
    from nsa.records.outcome import Failed

    return Failed(reason=reason, fix="none")


def test_commands_are_set_as_code() -> None:
    """What stands between backticks is code, and nothing in it is a tag."""
    assert code("run `make <x>` & wait") == "run <code>make &lt;x&gt;</code> &amp; wait"


def test_columns_of_figures_are_told_from_words() -> None:
    """A column is of figures where its values begin with numbers; one that is missing does not change that."""
    table = Table(("S", "backend", "ms", "none"), (("128", "sdpa", "0.1 [0.1, 0.2]", "–"), ("256", "fa2", "–", "–")))
    assert numeric(table) == [True, False, True, False]
    assert numeric(Table(("S",), ())) == [False]


def test_the_plot_library_is_whole_and_licensed(shown: Callable[[str], Lab]) -> None:
    """The inlined library has its versions and notices."""
    text = shown("mixed").layout.html.read_text()
    assert re.search(r"d3js\.org v\d", text) and re.search(r"@observablehq/plot v\d", text)
    assert "Copyright 2010-2023 Mike Bostock" in text
