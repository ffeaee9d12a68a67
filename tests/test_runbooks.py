"""docs/runbooks.md: what it says is guarded, and what runs by default, is what the specs and config.yaml say."""

from __future__ import annotations

import re

import yaml
from pages import ROOT

from nsa import backends

PAGE = (ROOT / "docs" / "runbooks.md").read_text()


def row(section: str, question: str) -> set[str]:
    """What stands as code in a section's answer."""
    _, _, text = PAGE.partition(f"## {section}\n")
    (answer,) = re.findall(rf"^\| {question} \| (.*) \|$", text.partition("\n## ")[0], re.MULTILINE)
    return set(re.findall(r"`([^`]+)`", answer))


def test_what_is_guarded_on_an_rtx_4090() -> None:
    """The backends with a guard on 8.9, and the flags that lift them."""
    specs = [backends.spec(name) for name in backends.BUILT_IN]
    guards = {(spec.name, guard.lifted_by) for spec in specs for guard in spec.guards if guard.capability == (8, 9)}
    said = {word for name, flag in guards for word in (name, f"{flag}=1")}
    assert guards and row("On an RTX 4090", "what is guarded, and why") == said


def test_what_runs_by_default() -> None:
    """The baseline and the candidates of config.yaml; on 8.9 those that no guard refuses."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    every = {config["baseline"], *config["candidates"]}
    assert row("On a GPU of a data centre", "what runs by default") == every
    assert row("On an RTX 4090", "what runs by default") == {name for name in every if not backends.spec(name).guards}
