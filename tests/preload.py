"""What Snakemake and the commands import of others' code, loaded once for all the forks of project.py.

Nothing of this project is among it, nor pynvml, for which tests have a stand-in: a fork imports them where it works.
"""

from __future__ import annotations

import gc
from importlib import import_module

OTHERS = (
    "filelock",
    "grimp",
    "jsonschema",
    "numpy",
    "pandas",
    "psutil",
    "pyarrow.parquet",
    "pydantic",
    "scipy.stats",
    "smart_open",
    "snakemake.cli",
    "snakemake.dag",
    "snakemake.report",
    "snakemake.workflow",
    "typer",
    "yaml",
    "yte",
)

for name in OTHERS:
    import_module(name)
import_module("snakemake.cli").get_argument_parser()  # which looks for plugins, and imports them
gc.freeze()  # a fork that looks for garbage copies none of it
