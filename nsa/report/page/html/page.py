"""The page: the report's content in a Jinja2 template, with its styles, scripts and plot library inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined
from markupsafe import Markup

from nsa.report.page.content import Content
from nsa.report.page.export import as_json
from nsa.report.page.html.cards import cards
from nsa.report.page.html.data import plots
from nsa.report.page.html.heat import heat_map
from nsa.report.page.tables import Table
from nsa.report.verdict.checks import Check
from nsa.report.verdict.meanings import MEANINGS
from nsa.report.verdict.words import BLOCKING

STYLES = ("page.css", "cards.css")
LIBRARY = ("vendor/d3.min.js", "vendor/plot.min.js")
SCRIPTS = ("plots.js", "page.js")
COMMAND = re.compile(r"`([^`]+)`")
NUMBER = re.compile(r"[-+]?\d[\d.]*")


def html_text(content: Content) -> str:
    """The whole page; it asks the network for nothing."""
    known = {accept.backend: heat_map(accept) for accept in content.accepts}
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            **vars(content),
            cards=cards(content),
            heat={backend: found for backend, found in known.items() if found},
            plots=as_json(plots(content)),
            anomaly_groups=grouped(content.fired),
            blocked=[f"{check.name} on {check.cell}" for check in content.fired if check.blocks],
            meanings=MEANINGS,
            styles=[asset(name) for name in STYLES],
            library=[asset(name) for name in LIBRARY],
            scripts=[asset(name) for name in SCRIPTS],
        )
    )


@cache
def templates() -> Templates:
    """The page's templates, which are compiled once."""
    environment = Templates(
        loader=PackageLoader("nsa.report.page.html", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": code, "numeric": numeric}
    return environment


def grouped(fired: Sequence[Check]) -> list[tuple[str, str, list[Check]]]:
    """The checks that fired by severity and name, blocking ones first."""

    def key(check: Check) -> tuple[bool, str]:
        return check.severity != BLOCKING, check.name

    groups = (list(group) for _, group in groupby(sorted(fired, key=key), key))
    return [(group[0].severity, group[0].name, group) for group in groups]


@cache
def asset(name: str) -> Markup:
    """A style or a script of this folder as it stands."""
    return Markup((files("nsa.report.page.html") / name).read_text(encoding="utf-8"))


def code(text: str) -> Markup:
    """Text whose parts between backticks are set as code."""
    pieces = COMMAND.split(str(text))  # text and code in turns
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if place % 2 else Markup("{}").format(piece)
        for place, piece in enumerate(pieces)
    )


def numeric(table: Table) -> list[bool]:
    """Which columns hold figures, which are set to the right: every value begins with a number, or is missing."""
    columns = zip(*table.rows, strict=True) if table.rows else [() for _ in table.header]
    return [any(map(NUMBER.match, column)) and not any(c[:1].isalpha() for c in column) for column in columns]
