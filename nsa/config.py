"""The typed configuration: config.yaml and the guide's environment flags, read once, here, at the edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nsa.errors import ConfigError
from nsa.shapes import NsaShape, require

SCHEMA_PATH = Path(__file__).parent.parent / "workflow" / "schemas" / "config.schema.yaml"
BACKENDS = ("sdpa", "triton", "cuda", "fa2")
ARTIFACTS = {"cuda": "build/cuda.json", "triton": "tune/triton.json"}  # in results: what a backend's own stage makes


@dataclass(frozen=True)
class Flags:
    """The guide's environment flags (guide, "Optional: Experiment Flags"); None means that the flag is not set."""

    cuda_build: bool | None = None  # NSA_SEL_CUDA_BUILD: build the CUDA extension, whatever config.yaml says
    cuda: bool = False  # NSA_SEL_CUDA: request the cuda backend
    triton: bool = False  # NSA_USE_TRITON_SEL: request the triton backend
    triton_force: bool = False  # NSA_TRITON_SEL_FORCE: lift the triton guard on compute capability 8.9
    fa2_force: bool = False  # NSA_FA2_FORCE: request the fa2 backend and lift its guard

    @property
    def requested(self) -> tuple[str, ...]:
        """The backends that the flags ask for."""
        asked = {"cuda": self.cuda, "triton": self.triton, "fa2": self.fa2_force}
        return tuple(name for name, wanted in asked.items() if wanted)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Flags:
        """Read the flags; a value other than 0 or 1 is an error that names the variable."""

        def read(variable: str) -> bool | None:
            value = environ.get(variable, "")
            require(value in ("", "0", "1"), variable, value, "0, 1 or unset")
            return None if value == "" else value == "1"

        return cls(
            cuda_build=read("NSA_SEL_CUDA_BUILD"),
            cuda=bool(read("NSA_SEL_CUDA")),
            triton=bool(read("NSA_USE_TRITON_SEL")),
            triton_force=bool(read("NSA_TRITON_SEL_FORCE")),
            fa2_force=bool(read("NSA_FA2_FORCE")),
        )


@dataclass(frozen=True)
class DecodeSettings:
    """How one decode cell is measured (guide, "Run the Decode Bench")."""

    model: NsaShape = field(default_factory=NsaShape)
    batch: int = 1
    dtype: Mapping[str, str] = field(default_factory=lambda: {"cuda": "bfloat16", "cpu": "float32"})
    iters: int = 32
    warmup: int = 8
    processes: int = 3
    cpu_threads: int = 1
    timeout_s: float = 600  # of one process
    seed: int = 0

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> DecodeSettings:
        """Build from the `decode` section of a validated configuration."""
        return cls(**{**section, "model": NsaShape(**section.get("model", {}))})


@dataclass(frozen=True)
class CheckSettings:
    """The acceptance grid and how it is checked (guide, "Acceptance Gate")."""

    rows: tuple[int, ...] = (256, 1024)
    heads_per_group: tuple[int, ...] = (4, 8)
    head_dim: tuple[int, ...] = (64, 128)
    value_dim: tuple[int, ...] = (64, 128)
    sel_count: tuple[int, ...] = (8, 16)
    sel_block: int = 64
    groups: int = 4
    context: int = 4096
    dtype: Mapping[str, str] = field(default_factory=lambda: {"cuda": "bfloat16", "cpu": "float32"})
    seeds: int = 5
    iters: int = 25
    processes: int = 3
    timeout_s: float = 1800  # of one process
    cpu_rows: int = 16
    cpu_context: int = 1088

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> CheckSettings:
        """Build from the `check` section of a validated configuration.

        Raises:
            ConfigError: a number of rows is not a multiple of the groups.
        """
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in section.items()}
        settings = cls(**values)
        for rows in (*settings.rows, settings.cpu_rows):
            require(
                rows % settings.groups == 0,
                "check.rows, check.cpu_rows",
                rows,
                f"a multiple of check.groups = {settings.groups}",
            )
        return settings


@dataclass(frozen=True)
class Target:
    """The time that a backend's kernel shall not exceed: ratio times the memory floor, plus so many µs."""

    ratio: float
    plus_us: float


@dataclass(frozen=True)
class RooflineSettings:
    """The shapes on which every kernel is compared with the memory floor, and how often each is timed; Dv = D."""

    rows: tuple[int, ...] = (4, 64, 256, 1024)
    heads_per_group: tuple[int, ...] = (4, 8, 16)
    head_dim: tuple[int, ...] = (64, 128)
    sel_count: tuple[int, ...] = (8, 16)
    sel_block: int = 64
    groups: int = 4
    context: int = 4096
    dtype: str = "bfloat16"
    iters: int = 25
    processes: int = 3
    timeout_s: float = 1800  # of one process

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> RooflineSettings:
        """Build from the `roofline` section of a validated configuration; its targets decide nothing that is measured.

        Raises:
            ConfigError: a number of rows is not a multiple of the groups.
        """
        measured = {key: value for key, value in section.items() if key != "targets"}
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in measured.items()}
        settings = cls(**values)
        for rows in settings.rows:
            expected = f"a multiple of roofline.groups = {settings.groups}"
            require(rows % settings.groups == 0, "roofline.rows", rows, expected)
        return settings


@dataclass(frozen=True)
class GateSettings:
    """The thresholds of the two gates (guide, "Acceptance Gate for M4 Kernel Work") and of a regression."""

    confidence: float = 0.95
    invest: Mapping[str, float] = field(default_factory=lambda: {"go": 0.30, "no_go": 0.25, "max_disagreement": 0.03})
    accept: Mapping[str, float] = field(default_factory=lambda: {"mae": 1e-3, "speedup": 1.2, "error_ratio": 2.0})
    regression: Mapping[str, float] = field(default_factory=lambda: {"margin": 0.05})  # since the accepted run


@dataclass(frozen=True)
class Config:
    """The whole configuration; `flags` are part of it, so that flipping one reruns what it affects."""

    contexts: tuple[int, ...]
    target_contexts: tuple[int, ...]
    baseline: str
    candidates: tuple[str, ...]
    device: str
    build_cuda: str
    dram_ncu: str
    decode: DecodeSettings
    check: CheckSettings
    roofline: RooflineSettings
    targets: Mapping[str, Target]  # of the roofline, by backend
    gates: GateSettings
    flags: Flags
    raw: Mapping[str, Any]

    @property
    def backends(self) -> tuple[str, ...]:
        """Every backend to run, each once: the baseline, the candidates, and what the flags ask for."""
        return tuple(dict.fromkeys((self.baseline, *self.candidates, *self.flags.requested)))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
        """Validate config.yaml's content and the flags.

        Raises:
            ConfigError: names the key, its value and what was expected.
        """
        validate(raw)
        contexts = tuple(sorted(raw["contexts"]))
        for S in contexts:
            require(S <= raw["max_context"], "contexts", S, f"at most max_context = {raw['max_context']}")
        targets = contexts if raw["target_contexts"] == "all" else tuple(sorted(raw["target_contexts"]))
        for S in targets:
            require(S in contexts, "target_contexts", S, f"one of contexts = {list(contexts)}")
        require(
            raw["baseline"] not in raw["candidates"],
            "candidates",
            raw["candidates"],
            f"a list without the baseline {raw['baseline']!r}",
        )
        flags = Flags.from_env(environ)
        gates = GateSettings(**raw["gates"])
        require(
            gates.invest["no_go"] <= gates.invest["go"],
            "gates.invest.no_go",
            gates.invest["no_go"],
            f"at most gates.invest.go = {gates.invest['go']}",
        )
        return cls(
            contexts=contexts,
            target_contexts=targets,
            baseline=raw["baseline"],
            candidates=tuple(raw["candidates"]),
            device=raw["device"],
            build_cuda=raw["build"]["cuda"]
            if flags.cuda_build is None
            else ("require" if flags.cuda_build else "skip"),
            dram_ncu=raw["dram"]["ncu"],
            decode=DecodeSettings.from_dict(raw["decode"]),
            check=CheckSettings.from_dict(raw["check"]),
            roofline=RooflineSettings.from_dict(raw["roofline"]),
            targets={name: Target(**target) for name, target in raw["roofline"]["targets"].items()},
            gates=gates,
            flags=flags,
            raw=raw,
        )


def validate(raw: Mapping[str, Any]) -> None:
    """Check the content of config.yaml against its schema; the worst fault becomes one line.

    Raises:
        ConfigError: names the key, its value and what was expected.
    """
    import jsonschema  # here: the commands that read no config.yaml start without it
    import yaml

    schema = yaml.load(SCHEMA_PATH.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # the C one: 50 ms less
    draft = jsonschema.Draft202012Validator
    whole = draft.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)  # JSON Schema lets 32.0 through
    validator = jsonschema.validators.extend(draft, type_checker=whole)(schema)
    fault = jsonschema.exceptions.best_match(validator.iter_errors(raw))
    if fault is None:
        return
    key = ".".join(str(part) for part in fault.absolute_path) or "config.yaml"
    if fault.validator == "additionalProperties":
        known = fault.schema["properties"]
        unknown = next(name for name in fault.instance if name not in known)
        raise ConfigError(f"config.yaml: unknown key {unknown!r} in {key}; known keys: {', '.join(known)}")
    if fault.validator == "required":
        missing = next(name for name in fault.validator_value if name not in fault.instance)
        raise ConfigError(f"config.yaml: {key} lacks the key {missing!r}; expected {', '.join(fault.validator_value)}")
    expected = fault.schema.get("description") or f"{fault.validator} {fault.validator_value}"
    raise ConfigError(f"config.yaml: {key}: got {fault.instance!r}, expected {expected}")


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read and validate a config.yaml.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds a wrong value.
    """
    import yaml

    try:
        raw = yaml.safe_load(path.read_bytes())  # bytes: a wrong encoding is then a YAMLError
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a config.yaml") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    return Config.from_dict(raw if isinstance(raw, dict) else {}, environ)
