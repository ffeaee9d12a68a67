"""The fused CUDA decode core, in an extension that a stage of its own builds."""

from nsa.specs import BackendSpec, Stage

ARTIFACT = "build/fused.json"
SPEC = BackendSpec(
    name="fused",
    require="nsa.kernels.fused.backend:require",
    load="nsa.kernels.fused.backend:load",
    contracts=frozenset({"core"}),
    stage=Stage(
        "nsa.kernels.fused.build:run",
        ARTIFACT,
        reads=("build",),
        uses=("nvcc",),
        examine="nsa.kernels.extension.examine:examine",
    ),
    files=("../extension/csrc/*",),
)
