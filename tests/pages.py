"""The pages that a reader has, README.md, CHANGELOG.md and docs/: their headings, and what they set as code."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [
    path.relative_to(ROOT) for path in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md")))
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(page: Path) -> str:
    """A page's text; where the CHANGELOG says what was before and what is now, only the latter."""
    whole = (ROOT / page).read_text()
    return re.sub(r"^\| .* \| (?=.* \|$)", "| ", whole, flags=re.MULTILINE) if page.stem == "CHANGELOG" else whole


def spans(page: Path) -> list[str]:
    """What stands between backticks in a page's sentences and tables."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text(page)))


def commands(page: Path) -> list[str]:
    """What a page tells its readers to type: spans, and lines of blocks of the shell."""
    lines = [line for kind, block in BLOCK.findall(text(page)) if kind in ("", "bash") for line in block.splitlines()]
    typed = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", line.partition("  #")[0]).strip() for line in [*spans(page), *lines]]
    return [line for line in typed if line.split(" ")[0] in ("make", "nsa", "python", "snakemake")]


def headings(page: Path) -> set[str]:
    """The anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
