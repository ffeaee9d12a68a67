"""A decode core in Triton, for whoever has no nvcc."""

from nsa.specs import BackendSpec

SPEC = BackendSpec(
    name="triton_core",
    require="nsa.kernels.triton_core.backend:require",
    load="nsa.kernels.triton_core.backend:load",
    contracts=frozenset({"core"}),
    uses=("triton",),
)
