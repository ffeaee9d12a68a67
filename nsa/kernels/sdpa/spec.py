"""Packed SDPA: the selected blocks packed, then PyTorch's fused attention; the baseline."""

from nsa.backends import BackendSpec

SPEC = BackendSpec(
    name="sdpa",
    require="nsa.kernels.sdpa.backend:require",
    load="nsa.kernels.sdpa.backend:load",
    packs=True,
)
