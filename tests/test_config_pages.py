"""What is made from the configuration's models: the editors' schema and the reference."""

from __future__ import annotations

import pytest
import yaml
from configurations import GOOD, MISSING, ROOT, changed

from nsa.config.__main__ import PAGE, PATH, schema
from nsa.config.reference import reference


def test_the_editors_schema_is_made_from_the_models() -> None:
    """The committed schema is what `python -m nsa.config` writes."""
    assert PATH.read_text() == schema(), "run `python -m nsa.config`"


def test_the_reference_is_made_from_the_models_and_the_file() -> None:
    """docs/config.md is what `python -m nsa.config` writes: no key is missing, no value or comment is of yesterday."""
    text = (ROOT / "config.yaml").read_text()
    assert PAGE.read_text() == reference(text), "run `python -m nsa.config`"
    assert "| `contexts` | `auto` | auto, or a list of contexts | S: tokens in the cache" in PAGE.read_text()
    assert "| `decode.batch` | `1` | a whole number of at least 1 | B, sequences |" in PAGE.read_text()
    edited = text.replace("batch: 1 # B, sequences", "batch: 2 # rows")
    assert "| `decode.batch` | `2` | a whole number of at least 1 | rows |" in reference(edited)


def test_the_editors_schema_accepts_what_is_accepted() -> None:
    """The schema is valid, takes the committed config.yaml, refuses what the models refuse, and lists no backends."""
    jsonschema = pytest.importorskip("jsonschema")
    made = yaml.safe_load(PATH.read_text())
    validator = jsonschema.Draft202012Validator(made)
    validator.check_schema(made)
    assert validator.is_valid(GOOD)
    for key, value in [("contexts", [0]), ("decode.iters", MISSING), ("itres", 1), ("device", "gpu")]:
        assert not validator.is_valid(changed(key, value))
    assert validator.is_valid(changed("candidates", ["one_that_is_installed_elsewhere"]))
