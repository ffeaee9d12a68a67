"""NSA decode benchmark: environment, artifacts, decode, kernel and core check, DRAM, report, roofline. See README.md."""

import os
import re
import sys
from pathlib import Path
from shlex import quote

sys.path.insert(0, str(workflow.current_basedir))  # the package beside this file, whatever is installed

from nsa import __file__ as package
from nsa import backends
from nsa.config import Config, attributed, read_document
from nsa.errors import NsaError
from nsa.layout import ACCEPTED, BACKEND, HISTORY, Layout
from nsa.machine import locks
from nsa.machine.fingerprint import cuda_expected, fingerprint
from nsa.machine.process import cancel_timers, interrupt_jobs_too
from nsa.pipeline import progress, stages, stamps


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


require_yaml("config.yaml")


configfile: "config.yaml"


layout = Layout()
require_no_prefix()
require_no_braces()
require_cores()

try:
    facts = fingerprint()
    cfg = Config.parse(typed(config, workflow.config_settings.config), os.environ, on_cuda=lambda: cuda_expected(facts))
    # A job that an executor starts elsewhere belongs to the lock and the stamps of the run that sent it.
    if workflow.is_main_process:
        lock = locks.claim(layout.root)  # kept until this process ends, however it ends
        left_out = stamps.write(cfg, facts, layout, ACCEPTED)
        for line in (*backends.warnings(), *left_out):
            print(f"warning: {line}; nothing of it is run", file=sys.stderr)
        if workflow.output_settings.dryrun:
            lock.release()
        else:
            interrupt_jobs_too()
            if not (workflow.output_settings.verbose or workflow.output_settings.printshellcmds):
                progress.take_over(workflow.logger_manager.logger, say_verdicts)
except NsaError as error:
    # A WorkflowError would add lines of this file to the one line that says it all.
    sys.exit(f"error: {attributed(str(error), 'config.yaml', given())}")

# `python` in a rule is the interpreter that runs Snakemake; a job dies with it, and can speak at its console.
shell.prefix(
    f"set -euo pipefail; PATH={quote(os.path.dirname(sys.executable))}:$PATH; "
    f"export NSA_PARENT={os.getpid()} NSA_CONSOLE=3; exec 3>&2; "
    f"export PYTHONPATH={quote(str(Path(package).parents[1]))}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; "  # what was stamped runs
)


selecting, coring = offering("selection"), offering("core")


wildcard_constraints:
    backend="|".join(map(re.escape, backends.names())),
    S=r"[1-9]\d*",


onsuccess:
    cancel_timers()


onerror:
    cancel_timers()


rule all:
    input:
        layout.report,


include: "workflow/rules/environment.smk"
include: "workflow/rules/artifact.smk"
include: "workflow/rules/decode.smk"
include: "workflow/rules/collect.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/core.smk"
include: "workflow/rules/core_curve.smk"
include: "workflow/rules/dram.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/roofline.smk"
