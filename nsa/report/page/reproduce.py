"""How to make a report again: the configuration of its run as a file, and commands that any shell takes as they are."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import yaml

from nsa.config import Config
from nsa.layout import Layout

COPY = Path("run.yaml")  # beside config.yaml: Snakemake deletes a report's files before it makes them again


def run_file(config: Config) -> str:
    """The whole configuration, as config.yaml has it."""
    text: str = yaml.safe_dump(config.document(), sort_keys=False, allow_unicode=True, default_flow_style=None)
    return text


def commands(config: Config, commits: Sequence[str], layout: Layout) -> str:
    """What to paste: no comment, no quotes, no assignment that only some shells know.

    Args:
        config: that of the run, with its flags.
        commits: those that its records are of; of several none can be checked out.
        layout: where the report lies.
    """
    lines = [f"git checkout {commits[0]}"] if len(commits) == 1 else []
    flags = [f"{name}={int(on)}" for name, on in config.flags.values.items()]
    run = ["snakemake", "--cores", "1", str(layout.report), "--configfile", str(COPY)]
    lines += [
        f"cp {layout.run_file} {COPY}",
        shlex.join(["env", *flags, *run] if flags else run),
        "python -m nsa check",
    ]
    return "\n".join(lines)
