"""One fused CUDA kernel over the selected blocks, in an extension that a stage of its own builds."""

from nsa.backends import BackendSpec, Flag, Stage

ARTIFACT = "build/cuda.json"
SPEC = BackendSpec(
    name="cuda",
    require="nsa.kernels.cuda.backend:require",
    load="nsa.kernels.cuda.backend:load",
    flags=(Flag("NSA_SEL_CUDA", requests=True),),
    stage=Stage(
        "nsa.kernels.cuda.build:run",
        ARTIFACT,
        reads=("build",),
        uses=("nvcc",),
        examine="nsa.kernels.extension.examine:examine",
    ),
    files=("../extension/csrc/*",),
)
