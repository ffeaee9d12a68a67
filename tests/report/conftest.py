"""A results folder that is filled with synthetic records, and read as the report reads it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec

import pytest
from pydantic import JsonValue
from states import STATES
from synthetic import CONFIG, CORES, CURVE, ENVIRONMENT, STAMP, Where, altered, header
from synthetic_cell import PARTS_MS, decode_facts, decode_rows
from synthetic_check import check_facts, check_rows
from synthetic_cores import core_facts, core_rows

from nsa.config import Config
from nsa.layout import Layout
from nsa.records import files, parquet, schemas
from nsa.records.facts import Digests, Environment
from nsa.report.analysis.read import read_cell
from nsa.report.analysis.summary import CellSummary, summarise
from nsa.report.page import render
from nsa.report.verdict.run import Run, read_run

P = ParamSpec("P")
WRITTEN: dict[tuple[object, ...], tuple[Path, bytes]] = {}  # what a builder wrote, and where in its folder


def written_once(write: Callable[Concatenate[Lab, P], Path]) -> Callable[Concatenate[Lab, P], Path]:
    """A record that a builder wrote before of the same arguments is copied: to make one anew takes a tenth of a second.

    A builder depends on its arguments only, and on `altered`, which a test may patch.
    """

    @wraps(write)
    def of(lab: Lab, *given: P.args, **named: P.kwargs) -> Path:
        key = (write.__name__, altered, repr(given), repr(sorted(named.items())))
        if key not in WRITTEN:
            path = write(lab, *given, **named)
            WRITTEN[key] = path.relative_to(lab.root), path.read_bytes()
            return path
        path = lab.root / WRITTEN[key][0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(WRITTEN[key][1])
        return path

    return of


@dataclass(frozen=True)
class Lab:
    """A results folder; each builder's arguments say what is unsound.

    Those that builders share:
        facts: what differs from the facts of a sound record.
        said: what differs from its header: stage, backend, S, device, provenance, stamp.
        drop: the rows that match are left out.
        alter: the rows that match the first get the values of the second.
    """

    root: Path
    config: Config = CONFIG
    about: Environment = ENVIRONMENT  # the machine

    @property
    def layout(self) -> Layout:
        """Where things lie in it."""
        return Layout(self.root)

    @property
    def accepted(self) -> Path:
        """Where accepted runs lie."""
        return self.root / "accepted"

    @property
    def history(self) -> Path:
        """Where histories lie."""
        return self.root / "history"

    @property
    def stamps(self) -> dict[str, Digests]:
        """Today's stamps."""
        stages = itertools.product(("decode", "check", "dram", "core", "core_curve"), (*self.config.backends, "fused"))
        return {f"{stage}-{backend}": STAMP for stage, backend in stages}

    @written_once
    def cell(
        self,
        backend: str = "sdpa",
        S: int = 2048,
        *,
        device: str = "cuda",
        parts: Mapping[str, float] | None = None,
        processes: int = 3,
        iters: int = 4,
        noise: float = 1e-3,
        variants: Mapping[str, float] | None = None,
        status: str = "ok",
        facts: Mapping[str, object] | None = None,
        said: Mapping[str, object] | None = None,
        drop: Where | None = None,
        alter: tuple[Where, Where] | None = None,
    ) -> Path:
        """Write one decode cell record.

        Args:
            parts: times in ms that differ from PARTS_MS.
            noise: relative, of the processes; a quarter of it, of the repetitions.
            variants: what selection takes in ms with packings other than gather.
        """
        rows = decode_rows(S, backend, device, {**PARTS_MS, **(parts or {})}, processes, iters, noise, variants)
        if variants:
            facts = {"variant": "gather", "variants": tuple(variants), **(facts or {})}
        rows = altered(rows, drop, alter) if status == "ok" else []
        known = decode_facts(S, device, processes, facts)
        path = self.layout.cell(backend, S)
        parquet.write(path, rows, schemas.REPETITIONS, header("decode", backend, device, status, known, S, said))
        return path

    @written_once
    def check(
        self,
        backend: str = "cuda",
        *,
        device: str = "cuda",
        speedup: float = 2.0,
        processes: int = 3,
        status: str = "ok",
        facts: Mapping[str, object] | None = None,
        said: Mapping[str, object] | None = None,
        drop: Where | None = None,
        alter: tuple[Where, Where] | None = None,
    ) -> Path:
        """Write one kernel check record; the candidate is `speedup` times as fast as the better variant, gather."""
        rows = check_rows(backend, device, speedup, processes) if status == "ok" else []
        known = check_facts(device, processes if device == "cuda" else 1, facts)
        path = self.layout.check(backend)
        made = header("check", backend, device, status, known, said=said)
        parquet.write(path, altered(rows, drop, alter), schemas.CHECK_REPETITIONS, made)
        return path

    @written_once
    def core(
        self,
        backend: str = "fused",
        stage: str = "core",
        *,
        device: str = "cuda",
        speedup: float = 2.0,
        processes: int = 3,
        status: str = "ok",
        facts: Mapping[str, object] | None = None,
        said: Mapping[str, object] | None = None,
        drop: Where | None = None,
        alter: tuple[Where, Where] | None = None,
    ) -> Path:
        """Write one core check record; the core is `speedup` times as fast as the fastest dense attention, cudnn.

        Args:
            stage: core, or core_curve, whose shapes are CURVE's.
        """
        settings = CORES if stage == "core" else CURVE.cores(CORES)
        rows = core_rows(backend, device, speedup, processes, settings) if status == "ok" else []
        known = core_facts(device, processes if device == "cuda" else 1, facts)
        path = self.layout.core(backend) if stage == "core" else self.layout.core_curve(backend)
        made = header(stage, backend, device, status, known, said=said)
        parquet.write(path, altered(rows, drop, alter), schemas.CORE, made)
        return path

    def summaries(self, cells: Sequence[Path]) -> list[CellSummary]:
        """The figures of some cells, read with today's stamps."""
        return summarise([read_cell(path, self.stamps) for path in cells], self.config.gates.confidence)

    def run(self, cells: Sequence[Path], checks: Sequence[Path] = (), cores: Sequence[Path] = ()) -> Run:
        """The records as a report or `nsa accept` reads and judges them."""
        return read_run(self.about, cells, checks, self.stamps, self.config, cores)

    def render(
        self,
        cells: Sequence[Path],
        checks: Sequence[Path] = (),
        build: str = "skipped",
        dram: Sequence[Path] = (),
        cores: Sequence[Path] = (),
        draws: bool = False,
    ) -> dict[str, JsonValue]:
        """Write the whole report; returns gate.json's content.

        Args:
            draws: whether the figure is drawn, too, which takes as long as all the rest.
        """
        files.write_model(self.layout.environment, self.about)
        log = "\n".join(f"line {n}" for n in range(50)) if build == "failed" else None
        manifest = self.layout.artifact("build/cuda.json")
        content = {"status": build, "reason": "no nvcc", "fix": "install CUDA", "log": log}
        files.write_text(manifest, json.dumps(content))
        with pytest.MonkeyPatch.context() as patch:
            if not draws:
                patch.setattr(render, "decode_breakdown", lambda *_: None)
            render.report(
                environment=self.layout.environment,
                artifacts=[manifest],
                cells=cells,
                checks=checks,
                stamps=self.stamps,
                config=self.config,
                out_dir=self.root,
                dram=dram,
                accepted=self.accepted,
                history=self.history,
                cores=cores,
            )
        return files.read_json(self.layout.gate)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An empty results folder."""
    return Lab(tmp_path)


@pytest.fixture(scope="module")
def module_lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """An empty results folder that the tests of a module share."""
    return Lab(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Lab]:
    """The results folder of one of states.py, with its report, for whoever only reads: each is made once a process."""
    made: dict[str, Lab] = {}

    def of(state: str) -> Lab:
        if state not in made:
            made[state] = Lab(tmp_path_factory.mktemp(state))
            STATES[state](made[state])
        return made[state]

    return of
