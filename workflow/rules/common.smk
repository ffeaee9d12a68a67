import yaml


def typed(value):
    """Snakemake leaves everything inside a `--config key=[1, 2]` text; read it as config.yaml would be read."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError):  # no YAML, or 2026-02-30, a number of thousands of digits
        return value  # the configuration says what is wrong with it


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
