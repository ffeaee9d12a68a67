"""Whether the backend can run here, and loading it; torch is imported by `load` only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.machine.host import Artifact, Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

FIX = "run `snakemake results/example/way.json`"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable where the backend cannot run: its stage has not run, or did not go well."""
    artifact = machine.artifacts.get("example")
    if artifact is None:
        raise BackendUnavailable("example", "its stage has not run", FIX)
    if artifact.get("status") != "ok":
        reason = f"its stage ended as {artifact.get('status')}: {artifact.get('reason')}"
        raise BackendUnavailable("example", reason, str(artifact.get("fix")))


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """The backend, computing in the way that its stage found faster."""
    from nsa.kernels.contract import Backend
    from nsa_example.kernel import WAYS

    way = str((artifact or {}).get("way"))
    if way not in WAYS:
        raise BackendUnavailable("example", f"its artifact names the way {way!r}, none of {', '.join(WAYS)}", FIX)
    return Backend("example", WAYS[way], notes=lambda: [{"way": way}])
