"""NSA decode benchmark: environment, build, decode, collect, kernel check, DRAM, report, roofline. See README.md."""

import os
import sys
from pathlib import Path
from shlex import quote

from nsa import config as settings
from nsa.errors import NsaError
from nsa.machine import locks
from nsa.machine.fingerprint import fingerprint
from nsa.pipeline import deleted, stamps


configfile: "config.yaml"


include: "workflow/rules/common.smk"


STAMPS = "results/.stamps"
ACCEPTED = "accepted"  # accepted runs; the report's stamp has their digests

try:
    cfg = settings.Config.from_dict(typed(config), os.environ)
    # A job that an executor starts elsewhere belongs to the lock and the stamps of the run that sent it.
    if workflow.is_main_process:
        lock = locks.claim(Path("results"))  # kept until this process ends, however it ends
        stamps.write(cfg, fingerprint(), Path(STAMPS), Path(ACCEPTED))
        deleted.note(Path("results"))
        if workflow.output_settings.dryrun:
            lock.release()
except NsaError as error:
    # A WorkflowError would add lines of this file to the one line that says it all.
    sys.exit(f"error: {error}")

# `python` in a rule is the interpreter that runs Snakemake; a job dies with it, and can speak at its console.
shell.prefix(
    f"set -euo pipefail; PATH={quote(os.path.dirname(sys.executable))}:$PATH; "
    f"export NSA_PARENT={os.getpid()} NSA_CONSOLE=3; exec 3>&2; "
)


wildcard_constraints:
    backend="|".join(settings.BACKENDS),
    S=r"[1-9]\d*",


rule all:
    input:
        "results/gate_report.md",


include: "workflow/rules/environment.smk"
include: "workflow/rules/build.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/dram.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/roofline.smk"
