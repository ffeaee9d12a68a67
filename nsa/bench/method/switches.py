"""torch's switches for a whole process, which change how fast and how exactly everything in it computes."""

from __future__ import annotations

import torch

from nsa.records.facts import Switches


def read() -> Switches:
    """The switches of this process, as they are."""
    sdpa = {
        "flash": torch.backends.cuda.flash_sdp_enabled(),
        "mem_efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
        "math": torch.backends.cuda.math_sdp_enabled(),
        "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
    }
    return Switches(
        deterministic_algorithms=torch.are_deterministic_algorithms_enabled(),
        float32_matmul=torch.backends.cuda.matmul.fp32_precision,
        sdpa_backends=tuple(name for name, enabled in sdpa.items() if enabled),
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        default_dtype=str(torch.get_default_dtype()).removeprefix("torch."),
        grad_enabled=torch.is_grad_enabled(),
        threads=torch.get_num_threads(),
    )


def changed(before: Switches, after: Switches) -> tuple[str, ...]:
    """What differs, one phrase each: "deterministic_algorithms: False before, True after"."""
    return tuple(
        f"{name}: {old} before, {new} after"
        for name in Switches.model_fields
        if (old := getattr(before, name)) != (new := getattr(after, name))
    )
