"""One Triton kernel over the selected blocks, its launch configurations tuned by a stage of its own."""

from nsa.backends import BackendSpec, Flag, Guard, Stage

ARTIFACT = "tune/triton.json"
SPEC = BackendSpec(
    name="triton",
    require="nsa.kernels.triton.backend:require",
    load="nsa.kernels.triton.backend:load",
    flags=(Flag("NSA_USE_TRITON_SEL", requests=True), Flag("NSA_TRITON_SEL_FORCE", affects=True)),
    guards=(Guard((8, 9), lifted_by="NSA_TRITON_SEL_FORCE"),),
    stage=Stage("nsa.bench.tune.stage:run", ARTIFACT, reads=("sizes", "device", "flags")),
    uses=("triton",),
)
