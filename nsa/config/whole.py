"""The whole of config.yaml, with the environment's flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import JsonValue, model_validator

from nsa import backends, settings
from nsa.config.document import read_document
from nsa.config.flags import BUILD, Flags
from nsa.config.kinds import AUTO, LONG_CONTEXTS, BackendName, Contexts, Targets
from nsa.config.sections import (
    BuildSettings,
    CheckSettings,
    CoreCurveSettings,
    CoreSettings,
    DecodeSettings,
    DramSettings,
    GateSettings,
    Mode,
    RooflineSettings,
)
from nsa.settings import Count, Distinct, Settings, refuse


def no() -> bool:
    """What a machine without CUDA says."""
    return False


class File(Settings):
    """config.yaml: its keys, and what must hold between them."""

    contexts: Contexts  # S
    target_contexts: Targets
    max_context: Count
    baseline: BackendName
    candidates: Annotated[tuple[BackendName, ...], Distinct("a list of distinct backends", empty=True)]
    device: Literal["auto", "cuda", "cpu"]
    build: BuildSettings
    decode: DecodeSettings
    check: CheckSettings
    dram: DramSettings
    roofline: RooflineSettings
    core: CoreSettings
    core_curve: CoreCurveSettings  # max_context does not limit its contexts: no gate and no other stage has such caches
    gates: GateSettings

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for key, contexts in self._contexts_by_key():
            for S in contexts:
                if S > self.max_context:
                    raise refuse(S, f"at most max_context = {self.max_context}", key)
        for S in self.targets:
            if S not in self.contexts:
                raise refuse(S, f"one of contexts = {list(self.contexts)}", "target_contexts")
        if "selection" not in backends.spec(self.baseline).contracts:
            raise refuse(self.baseline, "a backend with a selection kernel, whose share decides", "baseline")
        if self.baseline in self.candidates:
            raise refuse(list(self.candidates), f"a list without the baseline {self.baseline!r}", "candidates")
        return self

    def _contexts_by_key(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Every context that is given, by the key that gives it."""
        yield "contexts", self.contexts
        yield "check.context", [self.check.context]
        yield "check.cpu_context", [self.check.cpu_context]
        yield "roofline.context", [self.roofline.context]
        yield "core.contexts", self.core.contexts
        yield "core.cpu_context", [self.core.cpu_context]

    @property
    def targets(self) -> tuple[int, ...]:
        """The contexts that the invest gate decides on, ascending."""
        return self.contexts if isinstance(self.target_contexts, str) else self.target_contexts


class Config(File):
    """The whole configuration; `flags` are part of it, so that flipping one reruns what it affects."""

    flags: Flags = Flags()

    @property
    def backends(self) -> tuple[str, ...]:
        """Every backend to run, each once: the baseline, the candidates, and what the flags ask for."""
        return tuple(dict.fromkeys((self.baseline, *self.candidates, *self.flags.requested)))

    @property
    def selecting(self) -> tuple[str, ...]:
        """Those of them with a selection kernel: they run the kernel check, the DRAM counts and the roofline."""
        return tuple(name for name in self.backends if "selection" in backends.spec(name).contracts)

    @property
    def coring(self) -> tuple[str, ...]:
        """Those of them with a decode core: they run the core check."""
        return tuple(name for name in self.backends if "core" in backends.spec(name).contracts)

    @property
    def build_mode(self) -> Mode:
        """How the CUDA extension is built: as the flag says, else as the file does."""
        asked = self.flags.values.get(BUILD)
        return self.build.cuda if asked is None else "require" if asked else "skip"

    def document(self) -> dict[str, JsonValue]:
        """What config.yaml says, as JSON: `parse` makes the same configuration of it."""
        document: dict[str, JsonValue] = self.model_dump(mode="json", exclude={"flags"})
        return document

    @classmethod
    def parse(
        cls, raw: object, environ: Mapping[str, str], source: str = "config.yaml", on_cuda: Callable[[], bool] = no
    ) -> Config:
        """Validate what config.yaml holds, and the flags.

        Args:
            raw: the content.
            environ: where the flags are read.
            source: the file, for messages.
            on_cuda: whether CUDA will measure; asked where contexts or device are for the machine to choose.

        Raises:
            ConfigError: one line naming the key, its value and what was expected.
        """
        file = settings.parse(File, raw, source)
        if isinstance(raw, Mapping) and raw["contexts"] == AUTO and file.device != "cpu" and on_cuda():
            long = [S for S in LONG_CONTEXTS if S <= file.max_context]
            targets = long if file.target_contexts == AUTO and long else file.target_contexts
            chosen = {"contexts": [*file.contexts, *long], "target_contexts": targets}
            file = settings.parse(File, {**raw, **chosen}, source)
        return cls(**dict(file), flags=Flags.from_env(environ))


def overlaid(under: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """A document with the keys of another over its own, section by section, as Snakemake lays them."""
    laid = dict(under)
    for key, value in over.items():
        below = laid.get(key)
        laid[key] = overlaid(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return laid


def load(path: Path, environ: Mapping[str, str], on_cuda: Callable[[], bool] = no, under: Path | None = None) -> Config:
    """Read and validate a config.yaml; `on_cuda` as in Config.parse.

    Args:
        under: the file whose keys hold where this one has none, as config.yaml's do under `--configfile`.

    Raises:
        ConfigError: the file is missing, is not YAML, holds no keys or one twice, or a wrong value.
    """
    raw = read_document(path)
    if under is not None and under.exists() and not under.samefile(path):
        raw = overlaid(read_document(under), raw)
    return Config.parse(raw, environ, str(path), on_cuda)
