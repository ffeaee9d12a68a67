"""The report in Markdown, from its template."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

from nsa.report.page.content import Content
from nsa.report.page.tables import plain

FIGURE = "figures/decode_breakdown.png"


def markdown_text(content: Content) -> str:
    """The whole report; its figure lies beside it."""
    return templates().get_template("gate_report.md.j2").render(**vars(content), figure=FIGURE)


@cache
def templates() -> Templates:
    """The report's templates, which are compiled once."""
    environment = Templates(
        loader=PackageLoader("nsa.report.page"),
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["plain"] = plain
    return environment
