"""What the backend says of itself; this imports nothing heavy."""

from nsa.backends import BackendSpec, Flag, Guard, Stage

SPEC = BackendSpec(
    name="example",
    require="nsa_example.backend:require",
    load="nsa_example.backend:load",
    flags=(Flag("NSA_USE_EXAMPLE", requests=True), Flag("NSA_EXAMPLE_FORCE", affects=True)),
    guards=(Guard((8, 9), lifted_by="NSA_EXAMPLE_FORCE"),),
    stage=Stage("nsa_example.prepare:run", "example/way.json", reads=("device",)),
)
