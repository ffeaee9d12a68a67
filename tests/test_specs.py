"""What a backend says of itself: every field is checked when the spec is made, and named when it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nsa.config import BUILD
from nsa.errors import ConfigError
from nsa.machine.locks import FOLDER
from nsa.machine.process import CONSOLE, PARENT
from nsa.records.words import EMPTY
from nsa.specs import OURS, RESERVED, BackendSpec, Flag, Guard, Stage

SPEC = BackendSpec("acme", "acme.backend:require", "acme.backend:load")
RUN = "acme.prepare:run"


def test_what_is_reserved_is_what_it_is_reserved_for() -> None:
    """No backend takes a word of the records, or a variable that is ours."""
    assert RESERVED == (EMPTY,) and OURS == (BUILD, PARENT, CONSOLE, FOLDER)


def test_lists_are_taken_for_tuples() -> None:
    """A spec is hashed and compared, whatever its author wrote."""
    made = replace(SPEC, flags=[Flag("ACME_FAST")], uses=["triton"])  # type: ignore[arg-type]
    assert made == replace(SPEC, flags=(Flag("ACME_FAST"),), uses=("triton",)) and hash(made)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SPEC, name="Acme"), "BackendSpec.name: got 'Acme', expected a name of small letters"),
        (lambda: replace(SPEC, name="a/b"), "BackendSpec.name: got 'a/b', expected a name"),
        (lambda: replace(SPEC, name="empty"), "BackendSpec.name: got 'empty', expected a name .*none that is reserved"),
        (lambda: replace(SPEC, name=3), "BackendSpec.name: got 3, expected a valid string"),
        (
            lambda: replace(SPEC, require="acme"),
            "BackendSpec.require: got 'acme', expected text of the form \"module:f",
        ),
        (lambda: replace(SPEC, load=print), "BackendSpec.load: got <built-in function print>, expected a valid string"),
        (
            lambda: replace(SPEC, contracts=frozenset()),
            "BackendSpec.contracts: got {}, expected 'selection', 'core' or both",
        ),
        (lambda: replace(SPEC, contracts="selection"), "BackendSpec.contracts: got 'selection', expected a valid froz"),
        (lambda: replace(SPEC, flags=("ACME",)), r"BackendSpec.flags.0: got 'ACME', expected .* an instance of Flag"),
        (lambda: replace(SPEC, flags=Flag("ACME")), "BackendSpec.flags: got Flag.*, expected a valid tuple"),
        (lambda: replace(SPEC, guards=((8, 9),)), r"BackendSpec.guards.0: got \(8, 9\), expected .*instance of Guard"),
        (lambda: replace(SPEC, stage=RUN), "BackendSpec.stage: got 'acme.prepare:run', expected .*instance of Stage"),
        (lambda: replace(SPEC, uses="triton"), "BackendSpec.uses: got 'triton', expected a valid tuple"),
        (lambda: replace(SPEC, uses=("",)), "BackendSpec.uses.0: got '', expected the name of a package or a program"),
        (lambda: replace(SPEC, files="*.cu"), r"BackendSpec.files: got '\*.cu', expected a valid tuple"),
        (lambda: replace(SPEC, files=("/etc/*",)), r"BackendSpec.files.0: got '/etc/\*', expected a pattern of files"),
        (lambda: replace(SPEC, files=("",)), "BackendSpec.files.0: got '', expected a pattern of files"),
        (lambda: Flag("acme"), "Flag.variable: got 'acme', expected a variable of capitals"),
        (lambda: Flag("NSA_PARENT"), "Flag.variable: got 'NSA_PARENT', expected a variable .* that is not ours"),
        (lambda: Guard((8,), "ACME"), "Guard.capability.*1: got .*, expected"),
        (lambda: Stage("run", "acme/plan.json"), "Stage.entry: got 'run', expected text of the form"),
        (lambda: Stage(RUN, "acme/plan.json", reads="build"), "Stage.reads: got 'build', expected a valid tuple"),
        (lambda: Stage(RUN, "acme/plan.json", reads=("colour",)), "Stage.reads.0: got 'colour', expected build, sizes"),
    ],
)
def test_a_wrong_field_is_one_line(make: Callable[[], object], message: str) -> None:
    """The class, the field, the value and what was expected are named."""
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../plan.json",
            "/tmp/plan.json",
            "acme/../plan.json",
            "acme//plan.json",
            "acme/",
            "",
            ".",
            ".stamps/plan.json",
        ),
        *("acme/{S}.json", "acme/my plan.json", "acme/$(id).json", "acme\\plan.json", "acme/pl\u00e4n.json"),
    ],
)
def test_an_artifact_stays_in_the_results(path: str) -> None:
    """No artifact lies elsewhere, or has a name that Snakemake or a shell reads otherwise."""
    with pytest.raises(ConfigError, match=r"^Stage.artifact: got .*, expected a path in the results folder"):
        Stage(RUN, path)
