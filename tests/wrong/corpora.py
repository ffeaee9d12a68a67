"""All kernels that must not pass, by kind."""

from __future__ import annotations

from wrong.attacks import ATTACKS
from wrong.cheats import CHEATS
from wrong.entry import Entry
from wrong.honest import HONEST
from wrong.honest_sizes import HONEST_SIZES
from wrong.honest_values import HONEST_VALUES
from wrong.on_gpu import GPU_CHEATS

HONEST_AND_WRONG: dict[str, Entry] = HONEST | HONEST_SIZES | HONEST_VALUES
KINDS: dict[str, dict[str, Entry]] = {
    "honest": HONEST_AND_WRONG,
    "cheating": CHEATS | GPU_CHEATS,
}
__all__ = ["ATTACKS", "HONEST_AND_WRONG", "KINDS"]
