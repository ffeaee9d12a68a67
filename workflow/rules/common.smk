import yaml


def typed(value):
    """Snakemake leaves everything inside a `--config key=[1, 2]` text; read it as config.yaml would be read."""
    if isinstance(value, dict):
        return {key: typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    try:
        return yaml.safe_load(value) if isinstance(value, str) else value
    except yaml.YAMLError:
        return value  # the schema says what is wrong with it


ARTIFACTS = {backend: f"results/{record}" for backend, record in settings.ARTIFACTS.items()}


def artifacts(wildcards):
    """What the backend's own stage makes before it runs: a new build leaves the other backends' results alone."""
    return [ARTIFACTS[wildcards.backend]] if wildcards.backend in ARTIFACTS else []


def artifacts_option(wildcards, input):
    return " ".join(f"--artifacts {path}" for path in input.artifacts)


def build_option(wildcards, input):
    return f"--build {input.build}" if input.build else ""
