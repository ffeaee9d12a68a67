"""A copy of the project in which the tests of the pipeline run Snakemake."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Project:
    """A copy of the project in a folder of its own, and how to run Snakemake there."""

    root: Path

    def snakemake(
        self, *arguments: str, environ: dict[str, str] | None = None, python: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake as a user does; the PATH holds no `python` of ours, so the rules must find it themselves."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("NSA_", "SNAKEMAKE", "PYTHON"))}
        return subprocess.run(
            [sys.executable, *python, "-m", "snakemake", *arguments],
            cwd=self.root,
            env={**clean, "PATH": os.defpath, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def planned(self, *arguments: str, **environ: str) -> dict[str, int]:
        """How many jobs of each rule would run; empty when there is nothing to be done."""
        result = self.snakemake("--dry-run", *arguments, environ=environ)
        assert result.returncode == 0, result.stdout + result.stderr
        table = re.search(r"^job +count\n[- ]+\n(.*?)\n\n", result.stdout, re.DOTALL | re.MULTILINE)
        if table is None:
            assert "Nothing to be done" in result.stdout + result.stderr
            return {}
        counts = dict(line.split() for line in table[1].splitlines())
        return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}

    def configure(self, **changes: Any) -> None:
        """Change config.yaml; a section's keys are merged into it."""
        path = self.root / "config.yaml"
        config = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        path.write_text(yaml.safe_dump(config))

    def append(self, source: str, text: str = "\n# edited\n") -> None:
        """Edit a source by adding to its end."""
        with (self.root / source).open("a") as file:
            file.write(text)
