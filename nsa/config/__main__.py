"""python -m nsa.config: write the JSON schema of config.yaml, which editors read, from its definition.

In a checkout it is a file of the workflow; an installed package prints it.
"""

from __future__ import annotations

from pathlib import Path

import yaml

from nsa.config.whole import File

PATH = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.yaml"
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
        print(f"wrote {PATH}")
    else:
        print(schema(), end="")
