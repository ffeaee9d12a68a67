"""What the pages of decode cores share: a backend's record with its figures, why it has none, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from nsa import backends
from nsa.config import CoreSettings
from nsa.records.facts import CoreFacts
from nsa.records.words import Row
from nsa.report.analysis.core import CoreFigures, core_figures, off_core_grid, read_core
from nsa.report.analysis.read import Record, Stamps
from nsa.report.analysis.stats import Estimate
from nsa.report.page.tables import plain
from nsa.report.verdict.gates import outcome_words, percent
from nsa.settings import Settings

CORE_COLUMNS = (  # of a page's table: what every core has on every shape, see core_row
    ("backend", pa.string()),
    ("batch", pa.int32()),
    ("context", pa.int32()),
    ("head_dim", pa.int32()),
    ("value_dim", pa.int32()),
    ("core_us", pa.float64()),
    ("core_us_lo", pa.float64()),
    ("core_us_hi", pa.float64()),
    ("floor_us", pa.float64()),
    ("bandwidth_share", pa.float64()),
)


def no_core(page: Path) -> str:
    """What a page says where config.yaml names no backend with a decode core, and how to make it with one."""
    cores = backends.offering("core")
    return (
        f"**NOT MEASURED**: no backend of config.yaml offers a decode core; add {' or '.join(cores)} to candidates, "
        f"there or as in `snakemake {page} --config candidates=[{cores[0]}]`."
    )


class CorePage(Settings):
    """What a page of decode cores is made with, as in its stage's stamp: read it with nsa.settings.parse.

    Attributes:
        core: the shapes that the records must have.
        error_ratio: what makes an output correct.
        confidence: of the intervals.
    """

    core: CoreSettings
    error_ratio: float
    confidence: float


@dataclass(frozen=True)
class Cores:
    """One backend's record and figures; none where nothing was timed on the shapes that are asked for."""

    record: Record[CoreFacts]
    figures: Sequence[CoreFigures]


def read_cores(path: Path, stamps: Stamps, settings: CorePage, stage: str = "core") -> Cores:
    """Read one backend's record of a stage, and make its figures."""
    record = read_core(path, stamps, stage)
    if not record.ok or not record.on_cuda or off_core_grid(record, settings.core):
        return Cores(record, ())
    return Cores(record, core_figures(record, settings.core, settings.error_ratio, settings.confidence))


def not_measured(record: Record[CoreFacts]) -> str:
    """The one sentence of a record without figures."""
    if record.ok:
        return "**NOT MEASURED**: nothing was timed on this grid; run it on a machine with an NVIDIA GPU."
    return f"**NOT MEASURED**: {plain(outcome_words(record))}; {plain(record.fix or 'run it again')}."


def conditions(cores: Cores, confidence: float) -> str:
    """On what was measured, on which layer, how often, and of which sources."""
    facts, shape, origin = cores.record.facts, cores.figures[0].shape, cores.record.provenance
    copies = " and ".join(
        f"{rate / 1e12:.3f}" for rate in sorted({min(facts.bandwidth_bytes_per_s), max(facts.bandwidth_bytes_per_s)})
    )
    layer = f"H = {shape.groups * shape.heads_per_group}, G = {shape.groups}, l = {shape.cmp_block}"
    layer += (
        f", d = {shape.cmp_stride}, l' = {shape.sel_block}, n = {shape.sel_count}, w = {shape.window}, {shape.dtype}"
    )
    made = f"{facts.device.name}, {layer}. Processes: {len(facts.replicates)}. Copy bandwidth: {copies} TB/s. "
    made += f"Brackets: {percent(confidence)} t-intervals over the processes. "
    return made + f"Commit: {(origin and origin.git_commit) or 'unknown'}."


def fault_of(found: CoreFigures) -> str | None:
    """Why a core has no time that counts; None where it has one."""
    if found.faults is None:
        return "not run"
    if found.faults:
        return f"WRONG: {found.faults[0]}"
    return f"too fast: {found.too_fast}" if found.too_fast else None


def bounds(name: str, estimate: Estimate | None) -> Row:
    """An estimate as three columns; none where there is no estimate."""
    if estimate is None:
        return {}
    return {name: estimate.value, f"{name}_lo": estimate.low, f"{name}_hi": estimate.high}


def core_row(backend: str, found: CoreFigures, fault: str | None) -> Row:
    """CORE_COLUMNS and `fault` of one core on one shape; no time and no share of the bandwidth where it has a fault."""
    shape = found.shape
    return {
        "backend": backend,
        "batch": shape.batch,
        "context": shape.context,
        "head_dim": shape.head_dim,
        "value_dim": shape.value_dim,
        **bounds("core_us", None if fault else found.time_us),
        "floor_us": found.floor_us,
        "bandwidth_share": None if fault else found.rate,
        "fault": fault,
    }
