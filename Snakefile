"""NSA decode benchmark: environment, build, decode, collect, kernel check, DRAM bytes, report. See README.md."""

import os
import sys
from pathlib import Path
from shlex import quote

from nsa import config as settings
from nsa import stamps
from nsa.errors import NsaError
from nsa.fingerprint import fingerprint


configfile: "config.yaml"


include: "workflow/rules/common.smk"


STAMPS = "results/.stamps"

try:
    cfg = settings.Config.from_dict(typed(config), os.environ)
except NsaError as error:
    # A WorkflowError would add lines of this file to the one line that says it all.
    sys.exit(f"error: {error}")

# A job that an executor starts elsewhere belongs to the stamps of the run that sent it.
if workflow.is_main_process:
    stamps.write(cfg, fingerprint(), Path(STAMPS))

# `python` in a rule is the interpreter that runs Snakemake.
shell.prefix(f"set -euo pipefail; PATH={quote(os.path.dirname(sys.executable))}:$PATH; ")


wildcard_constraints:
    backend="|".join(settings.BACKENDS),
    S=r"[1-9]\d*",


rule all:
    input:
        "results/gate_report.md",


include: "workflow/rules/environment.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/dram.smk"
include: "workflow/rules/report.smk"
