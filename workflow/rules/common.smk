import sys
from collections.abc import Mapping

import yaml


def typed(value, given):
    """The settings, with what `--config` gave read as config.yaml is: Snakemake leaves all inside [1, 2] text.

    What a file holds stays as it is: a text in it is a text, here as for every command.
    """
    if not (isinstance(value, dict) and isinstance(given, Mapping)):
        return read(value)
    return {key: typed(item, given[key]) if key in given else item for key, item in value.items()}


def read(value):
    """A value of `--config`, as YAML reads the texts in it."""
    if isinstance(value, dict):
        return {key: read(item) for key, item in value.items()}
    if isinstance(value, list):
        return [read(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):  # no YAML, or 2026-02-30, a number of thousands of digits
        return value  # the configuration says what is wrong with it


def require_yaml(path):
    """End the run in one line where this file, or one of `--configfile`, is not YAML or has a key twice."""
    try:
        for file in (path, *workflow.config_settings.configfiles):
            if os.path.exists(file):
                read_document(Path(os.path.relpath(file)))
    except NsaError as error:
        sys.exit(f"error: {error}")


def given():
    """What overrides config.yaml, with the names that messages have for it."""
    files = workflow.config_settings.configfiles
    settings = [(os.path.relpath(file), yaml.safe_load(Path(file).read_text())) for file in files]
    return [*settings, ("--config", workflow.config_settings.config)]


def require_cores():
    """End the run in one line where no core is given: Snakemake would wait for one without a word."""
    if (cores := workflow.resource_settings.cores) is not None and cores < 1:
        sys.exit(f"error: --cores: got {cores}, expected a whole number of at least 1, or all")


def require_no_braces():
    """End the run in one line where a folder's name has what Snakemake takes for a name in a shell command."""
    for path in (os.getcwd(), str(workflow.current_basedir), sys.executable):
        if set(path) & set("{}"):
            sys.exit(
                f"error: got a folder with braces in its path, {path}, expected none; rename it, or work elsewhere"
            )


def require_no_prefix():
    """End the run in one line where this is a module whose paths are moved: stamps and locks would not move along."""
    path = str(layout.report)
    if (moved := workflow.modifier.path_modifier.replace_prefix(path)) != path:
        sys.exit(
            f"error: module: its prefix puts {path} at {moved}, expected no prefix and no replace_prefix; leave it out,"
            " or run this workflow by itself with `snakemake --directory`"
        )


def offering(contract):
    """The wildcard of the backends that offer a contract; without any it matches nothing."""
    return "|".join(map(re.escape, backends.offering(contract))) or "(?!)"


def artifacts_of(*names):
    """What these backends' own stages make before they run: a new build leaves the other backends' results alone."""
    own = [backends.spec(name).stage for name in names]
    return [layout.artifact(stage.artifact) for stage in own if stage is not None]


def artifacts(wildcards):
    return artifacts_of(wildcards.backend)


def artifacts_option(wildcards, input):
    return " ".join(f"--artifacts {path}" for path in input.artifacts)


def stamp_of_cell(wildcards):
    """A decode cell's stamp; a context that no cache may have ends the run in one line."""
    if int(wildcards.S) > cfg.max_context:
        sys.exit(f"error: S: got {wildcards.S}, expected at most max_context = {cfg.max_context} (config.yaml)")
    return layout.stamp(f"decode-{wildcards.backend}")


def say_verdicts():
    """Close a run with what its report says, or the other pages, where they were asked for."""
    targets = set(workflow.dag_settings.targets)  # none: the first rule's
    if workflow.touch:
        return
    if not targets or targets & {"all", "report", str(layout.report), str(layout.html)}:
        print("\n".join(progress.verdicts(layout)), flush=True)
    for line in progress.pages(layout, targets):
        print(line, flush=True)
