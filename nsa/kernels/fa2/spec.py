"""FlashAttention-2 over packed blocks."""

from nsa.backends import BackendSpec, Flag, Guard

SPEC = BackendSpec(
    name="fa2",
    require="nsa.kernels.fa2.backend:require",
    load="nsa.kernels.fa2.backend:load",
    flags=(Flag("NSA_FA2_FORCE", requests=True, affects=True),),
    guards=(Guard((8, 9), lifted_by="NSA_FA2_FORCE"),),
    packs=True,
    uses=("flash_attn",),
)
