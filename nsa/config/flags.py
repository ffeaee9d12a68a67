"""The environment flags (docs/guide.md); the backends' specs say which there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from nsa import backends
from nsa.errors import ConfigError
from nsa.specs import OURS

NEAR = 0.7  # likeness from which a name is taken for a mistyped one: NSA_USE_TRITON for NSA_USE_TRITON_SEL
BUILD = "NSA_SEL_CUDA_BUILD"  # build the CUDA extension, whatever config.yaml says


@dataclass(frozen=True)
class Flags:
    """The flags that are set, by their variables; one that is not set is missing."""

    values: Mapping[str, bool] = field(default_factory=dict)

    def on(self, variable: str) -> bool:
        """Whether the variable is set to 1."""
        return self.values.get(variable, False)

    @property
    def requested(self) -> tuple[str, ...]:
        """The backends that the flags ask for."""
        specs = [backends.spec(name) for name in backends.names()]
        return tuple(
            spec.name for spec in specs if any(flag.requests and self.on(flag.variable) for flag in spec.flags)
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Flags:
        """Read the flags.

        Raises:
            ConfigError: a value is neither 0 nor 1, asks for a broken backend, or a name is nearly a flag's; with the
                variable's name.
        """
        given = {variable: environ[variable] for variable in variables() if environ.get(variable)}
        for variable, value in given.items():
            if value not in ("0", "1"):
                raise ConfigError(f"{variable}: got {value!r}, expected 0, 1 or unset")
        _refuse_mistyped(environ)
        unknown = [name for name in environ if name.startswith("NSA_") and name not in (*variables(), *OURS)]
        for broken in backends.broken().values():
            for variable in unknown if broken.requests is None else broken.requests:
                if environ.get(variable) == "1":
                    raise ConfigError(
                        f"{variable}: got '1', which may ask for a backend that cannot be used: {broken.why}"
                    )
        return cls({variable: value == "1" for variable, value in given.items()})


def _refuse_mistyped(environ: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly one of ours: who set it asked for something, and would not get it."""
    known = (*variables(), *OURS, *(name for each in backends.broken().values() for name in each.requests or ()))
    for name in environ:
        if name.startswith("NSA_") and name not in known and (near := get_close_matches(name, known, 1, NEAR)):
            raise ConfigError(f"{name}: no flag of this project, expected {near[0]}, or another one unset")


def variables() -> tuple[str, ...]:
    """Every flag's variable: that of the build, and those of the backends."""
    flags = (flag for name in backends.names() for flag in backends.spec(name).flags)
    return tuple(dict.fromkeys((BUILD, *(flag.variable for flag in flags))))
