"""The configuration that a gate.json, or the stamp of the report's stage, says that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from nsa.config.whole import Config
from nsa.errors import ConfigError, RecordError


def recorded(found: Mapping[str, JsonValue], source: Path) -> Config:
    """The configuration under the keys `config` (see Config.document) and `flags` (by their variables).

    Args:
        found: the content of a gate.json, or the settings of the report stage's stamp.
        source: the file that it comes from.

    Raises:
        RecordError: there is none, or not one of this version; one line names the source.
    """
    flags, fix = found.get("flags"), f"delete {source} and run `snakemake`"
    if not isinstance(flags, dict) or "config" not in found:
        raise RecordError(f"{source}: does not say which configuration it is of (see CHANGELOG.md); {fix}")
    try:
        return Config.parse(found["config"], {name: "1" if on else "0" for name, on in flags.items()}, str(source))
    except ConfigError as error:
        raise RecordError(f"{error} (see CHANGELOG.md); {fix}") from error
