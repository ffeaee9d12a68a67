"""docs/config.md: every key of config.yaml with its value there, what it may hold and what it means.

The keys and bounds are those of the model that validates the file, the meaning is the file's own comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import yaml
from pydantic import JsonValue

from nsa.config.whole import File

HEAD = """# Every key of config.yaml

Made by `python -m nsa.config` from the model that validates the file (`nsa/config/`) and from the file's own comments.
A wrong value is one line that names the key, what was got and what was expected. A key is overridden for one run with
`snakemake --config contexts=[4096,65536]`, inside a section with `--config 'decode={iters: 5}'`
(`--config decode.iters=5` is refused by Snakemake itself, [with a traceback](faults.md)); a file of overrides,
which needs no more than the keys that it changes, is given with `--configfile`.

The paper's letters: B sequences, H query heads, G KV groups of h = H / G heads, D the width of q and k, Dv that of v;
compression blocks of l tokens, one every d; selection blocks of l′ tokens, of which n are selected; a window of w.

"""
COMMENT = re.compile(r"(?:^|\s)# (.*)$")
ROW = "| {} | {} | {} | {} |"
Schema = Mapping[str, JsonValue]


@dataclass(frozen=True)
class Key:
    """One key that holds a value."""

    name: str  # dotted
    value: str  # in config.yaml
    holds: str
    meaning: str


def reference(config_yaml: str) -> str:
    """The page's text.

    Args:
        config_yaml: the content of the file that the values and comments are of.
    """
    schema = File.model_json_schema()
    places, values = comments(config_yaml), yaml.safe_load(config_yaml)
    keys = [Key(name, shown(values, name), held, places.get(name, "")) for name, held in leaves(schema, schema, "")]
    sections: dict[str, list[Key]] = {}
    for key in keys:
        sections.setdefault(key.name.partition(".")[0] if "." in key.name else "", []).append(key)
    return HEAD + "\n".join(section(name, found, places.get(name, "")) for name, found in sections.items())


def section(name: str, keys: list[Key], meaning: str) -> str:
    """A table with its heading."""
    title = f"## {name}\n\n" if name else ""
    about = f"{meaning[0].upper()}{meaning[1:]}.\n\n" if meaning and name else ""
    rows = [ROW.format("key", "value", "may be", "meaning"), ROW.format(*["---"] * 4)]
    rows += [ROW.format(f"`{key.name}`", f"`{key.value}`", key.holds, key.meaning) for key in keys]
    return title + about + "\n".join(rows) + "\n"


def leaves(part: Schema, whole: Schema, prefix: str) -> Iterator[tuple[str, str]]:
    """The keys that hold values, dotted, with what each may be."""
    for name, below in _mapping(part["properties"]).items():
        found = _resolved(_mapping(below), whole)
        if "properties" in found:
            yield from leaves(found, whole, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _held(found)


def comments(text: str) -> dict[str, str]:
    """What the file says of each key: the lines of comment above it, and what follows its value."""
    found: dict[str, str] = {}
    lines, root = text.splitlines(), yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    for name, line in _places(root, ""):
        above: list[str] = []
        for before in reversed(lines[:line]):
            if not before.startswith("# "):
                break
            above.insert(0, before.removeprefix("# "))
        beside = COMMENT.search(lines[line])
        first = lines[line].lstrip().startswith(name.rpartition(".")[2])  # of a line {a: 1, b: 2} the first key
        found[name] = " ".join([*above, beside[1] if beside and first else ""]).strip().replace("|", "\\|")
    return found


def shown(values: object, name: str) -> str:
    """The value of a dotted key, on one line."""
    for part in name.split("."):
        assert isinstance(values, dict)
        values = values[part]
    text: str = yaml.safe_dump(values, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("...\n").strip()


def _places(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line
        if isinstance(value, yaml.MappingNode):
            yield from _places(value, f"{name}.")


def _resolved(part: Schema, whole: Schema) -> Schema:
    reference_to = part.get("$ref")
    if not isinstance(reference_to, str):
        return part
    return _mapping(_mapping(whole["$defs"])[reference_to.rpartition("/")[2]])


def _held(part: Schema) -> str:
    choices = part.get("enum")
    if isinstance(choices, list):
        return ", ".join(map(str, choices))
    return str(part.get("description", part.get("type", "")))


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    assert isinstance(value, dict)
    return value
