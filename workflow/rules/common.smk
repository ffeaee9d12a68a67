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


def manifest(wildcards):
    """Only the cuda backend runs what the build stage made: a new build leaves the others' results alone."""
    return "results/build/cuda.json" if wildcards.backend == "cuda" else []


def build_option(wildcards, input):
    return f"--build {input.build}" if input.build else ""
