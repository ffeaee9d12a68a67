"""What a configuration file holds, as YAML has it: no key twice, and an error names the file and the line."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.errors import ConfigError

if TYPE_CHECKING:
    from yaml import Node


def read_document(path: Path) -> Mapping[str, object]:
    """Read a YAML file of keys and their values.

    Raises:
        ConfigError: it is missing, is not YAML, holds something else than keys, or has a key twice; one line with the
            place.
    """
    import yaml  # here: the commands that read no config.yaml start without it

    # the parser in C, where there is one, takes a tenth of the time; bytes: a wrong encoding is then a YAMLError
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = path.read_bytes()
        _no_key_twice(path, yaml.compose(content, Loader=loader))
        document = yaml.load(content, loader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a config.yaml") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{path}: is not YAML: {where}{said}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2026-02-30, a number of thousands of digits
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, Mapping):
        found = "nothing" if document is None else "a list" if isinstance(document, list) else "a single value"
        raise ConfigError(f"{path}: got {found}, expected keys with their values, such as `contexts: auto`")
    return document


def _no_key_twice(path: Path, node: Node | None) -> None:
    """Refuse what YAML would silently take the last of."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _no_key_twice(path, item)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[Hashable, int] = {}
        for key, value in node.value:
            here = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, here) != here:
                raise ConfigError(
                    f"{path}: line {here}: got {key.value!r} again, expected each key once; it is in line "
                    f"{lines[key.value]} already"
                )
            _no_key_twice(path, value)


def attributed(said: str, source: str, given: Sequence[tuple[str, Mapping[str, object]]]) -> str:
    """An error of a file's key, under the name of what gave the key in its place.

    Args:
        said: the line, which begins with `source` and the key.
        source: the file that `said` names.
        given: what overrides the file, the last one last: its name and its keys.
    """
    head, _, rest = said.partition(": ")
    unknown = re.match(r"unknown key '(?P<key>.+?)' in (?P<section>\S+);", rest)
    if unknown is None:
        key = rest.partition(":")[0]
    elif unknown["section"] == source:
        key, rest = unknown["key"], rest.replace(f" in {source};", ";", 1)
    else:
        key = f"{unknown['section']}.{unknown['key']}"
    for name, keys in reversed(given):
        if head == source and _gives(keys, key.split(".")):
            return f"{name}: {rest}"
    return said


def _gives(keys: object, path: Sequence[str]) -> bool:
    """Whether a dotted key is set in these, or the whole section that it lies in."""
    for part in path:
        if not isinstance(keys, Mapping):
            return True  # an item of a list, or a section that is no mapping
        if part not in keys:
            return False
        keys = keys[part]
    return True
