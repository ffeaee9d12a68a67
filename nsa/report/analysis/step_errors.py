"""How far the outputs of a cell's timed steps may be off a float64 step, and which packings are further off."""

from __future__ import annotations

from nsa.records.decode import DecodeFacts
from nsa.records.words import OTHER

# Of a row's relative L2 error. The worst of 5 geometries, 6 contexts and 3 seeds on a CPU was 1.2e-6 in float32, 8.9e-4
# in float16 and 7.1e-3 in bfloat16, less than one unit of rounding of either: these leave room for other orders of
# summing, and for probabilities or partial sums that a GPU's kernels round.
TOLERANCE = {"float32": 1e-5, "float16": 2.5e-3, "bfloat16": 2e-2}


def wrong_variants(facts: DecodeFacts) -> dict[str, str]:
    """The further packings whose steps are wrong in some process, and by how much: they do not compete."""
    allowed, found = TOLERANCE[facts.geometry.dtype], dict[str, str]()
    for each in facts.judged:
        for arm, error in each.outputs.items():
            name = arm.partition(OTHER)[2]
            if name in facts.variants and not (error is not None and error <= allowed):
                how = (
                    "is not finite" if error is None else f"is {error:.2g} off float64, at most {allowed:g} is rounding"
                )
                found[name] = f"its step {how}"
    return found
