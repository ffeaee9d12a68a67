"""python -m nsa.config: write what is made from the definition of config.yaml, its JSON schema and docs/config.md.

In a checkout they are files; an installed package prints the schema.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from nsa.config.reference import reference
from nsa.config.whole import File

ROOT = Path(__file__).parents[2]
PATH, PAGE = ROOT / "workflow" / "schemas" / "config.schema.yaml", ROOT / "docs" / "config.md"
HEAD = "# For editors. Made by `python -m nsa.config` from nsa/config, where every key, bound and word is defined.\n"


def schema() -> str:
    """The schema's text."""
    made = File.model_json_schema()
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "config.yaml of the NSA decode benchmark",
    }
    return HEAD + yaml.safe_dump({**about, **made}, sort_keys=False, width=120, allow_unicode=True)


if __name__ == "__main__":
    if PATH.parent.is_dir():
        PATH.write_text(schema(), encoding="utf-8")
        PAGE.write_text(reference((ROOT / "config.yaml").read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {PATH} and {PAGE}")
    else:
        print(schema(), end="")
