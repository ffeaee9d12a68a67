"""The configuration that is committed, and others that differ from it in one key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
GOOD = yaml.safe_load((ROOT / "config.yaml").read_text())
MISSING = object()


def changed(key: str, value: object) -> dict[str, Any]:
    """The good configuration with one key (dotted) set to another value, or taken out."""
    raw: dict[str, Any] = copy.deepcopy(GOOD)
    *parents, last = key.split(".")
    section = raw
    for parent in parents:
        section = section[parent]
    if value is MISSING:
        del section[last]
    else:
        section[last] = value
    return raw
