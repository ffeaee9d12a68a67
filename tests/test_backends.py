"""Which backends there are: those of this repository, and installed ones by their entry points."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installed import distribution, installed

from nsa import backends
from nsa.config import Config, Flags, RooflineSettings, load, variables
from nsa.errors import ConfigError

ROOT = Path(__file__).parents[1]
OUTSIDE = ROOT / "tests" / "outside"
SPEC = """from nsa.backends import BackendSpec, Flag, Guard, Stage
SPEC = BackendSpec({})
"""
NAMED = "name='acme', require='acme.backend:require', load='acme.backend:load'"


def acme(folder: Path, spec: str, entry_point: str = "acme = acme.spec:SPEC", name: str = "acme") -> Path:
    """A package with this module acme.spec."""
    return distribution(folder, name, entry_point, {"acme/__init__.py": "", "acme/spec.py": spec})


def test_the_repositorys_own_come_first() -> None:
    """Every line of BUILT_IN leads to a spec of its name, whose functions can be imported."""
    assert backends.names()[:6] == ("sdpa", "triton", "cuda", "fa2", "fused", "triton_core")
    for name in backends.BUILT_IN:
        spec = backends.spec(name)
        assert spec.name == name and backends.package(name) == f"nsa.kernels.{name}"
        for line in (spec.require, spec.load, *((spec.stage.entry,) if spec.stage else ())):
            assert callable(backends.resolve(line))


def test_an_installed_one_is_found_and_configured() -> None:
    """A package with an entry point is a backend: its name and its flags are part of the configuration."""
    with installed(OUTSIDE):
        assert backends.names()[-1] == "example" and backends.package("example") == "nsa_example"
        assert {"NSA_USE_EXAMPLE", "NSA_EXAMPLE_FORCE"} <= set(variables())
        raw = load(ROOT / "config.yaml", {}).document()
        raw["candidates"] = ["example"]
        assert Config.parse(raw, {}).backends == ("sdpa", "example")
        raw["candidates"] = []
        flags = {"NSA_USE_EXAMPLE": "1"}
        assert Config.parse(raw, flags).backends == ("sdpa", "example")
        assert Flags.from_env({"NSA_EXAMPLE_FORCE": "1"}).on("NSA_EXAMPLE_FORCE")
    assert "example" not in backends.names() and "NSA_USE_EXAMPLE" not in variables()


def test_a_new_process_finds_it_on_the_path() -> None:
    """Every job of a run sees an installed backend; looking for it imports nothing heavy."""
    code = "import sys; from nsa import backends; print(backends.spec('example').name, 'torch' in sys.modules)"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(OUTSIDE)))}
    ran = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert ran.stdout == "example False\n"


def test_an_unknown_name_is_one_line() -> None:
    """The message lists the names that there are."""
    with pytest.raises(ConfigError, match=r"backend: got 'tritn', expected one of sdpa, triton, cuda, fa2"):
        backends.spec("tritn")


ARTIFACT = ", stage=Stage('acme.prepare:run', '{}')"
BROKEN = [
    (SPEC.format(NAMED + ", api=2"), r"BackendSpec 'acme', api 2, expected its BackendSpec of api 1"),
    (SPEC.format(NAMED + ", speed=9"), r"is no spec of api 1 \(.*unexpected keyword argument 'speed'\)"),
    (
        SPEC.format(NAMED + ", packs=[]"),
        r"is no spec of api 1 \(BackendSpec\.packs: got \[\], expected a valid boolean\)",
    ),
    (SPEC.format(NAMED.replace("'acme'", "'other'")), r"BackendSpec 'other', api 1, expected its BackendSpec"),
    ("SPEC = 1\n", r"is int '', api None, expected its BackendSpec of api 1"),
    ("", r"acme\.spec:SPEC cannot be imported \(module 'acme.spec' has no attribute 'SPEC'\)"),
    ("import absent_module\n", r"acme\.spec:SPEC cannot be imported \(No module named 'absent_module'\)"),
    ("SPEC =\n", r"acme\.spec:SPEC cannot be imported \(invalid syntax"),
    ("raise ValueError('a bug\\nand more')", r"acme\.spec:SPEC cannot be imported \(ValueError: a bug\)"),
    ("raise SystemExit('no GPU')", r"acme\.spec:SPEC cannot be imported \(SystemExit: no GPU\)"),
    (
        SPEC.format(NAMED + ", flags=(Flag('ACME', requests=True),), guards=(Guard((8, 0), lifted_by='ACME'),)"),
        r"its guard is lifted by 'ACME', expected one of its flags that `affects`: none",
    ),
    (
        SPEC.format(NAMED + ARTIFACT.format("gate.json")),
        r"its artifact is gate\.json, where results of the pipeline lie",
    ),
    (SPEC.format(NAMED + ARTIFACT.format("decode/acme/x")), r"its artifact is decode/acme/x, where results of the"),
    (SPEC.format(NAMED + ARTIFACT.format("build/cuda.json")), r"its artifact is build/cuda\.json, and that of cuda is"),
    (SPEC.format(NAMED + ARTIFACT.format("build")), r"its artifact is build, and that of cuda is build/cuda\.json"),
]


@pytest.mark.parametrize(("spec", "message"), BROKEN)
def test_a_broken_spec_is_one_line(spec: str, message: str, tmp_path: Path) -> None:
    """A spec that is none, or of another interface, is named with its package and the fix, and only who asks ends."""
    with installed(acme(tmp_path, spec)):
        assert backends.names() == tuple(backends.BUILT_IN)
        (line,) = backends.warnings()
        with pytest.raises(ConfigError, match=message) as caught:
            backends.spec("acme")
    assert str(caught.value) == line and "\n" not in line
    assert line.startswith("backend 'acme': ") and line.endswith("; fix or uninstall its package")


@pytest.mark.parametrize("key", ["candidates", "baseline", "roofline"])
def test_asking_for_a_broken_one_is_an_error(key: str, tmp_path: Path) -> None:
    """config.yaml goes on without one that it does not name, and ends in one line with the reason where it does."""
    raw = load(ROOT / "config.yaml", {}).document()
    changed: dict[str, object] = {
        "candidates": ["acme"],
        "baseline": "acme",
        "roofline": {**RooflineSettings().model_dump(), "targets": {"acme": {"ratio": 1.1, "plus_us": 1}}},
    }
    with installed(acme(tmp_path, "import absent_module\n")):
        assert Config.parse(raw, {}).backends == ("sdpa", "cuda", "triton", "fa2")
        with pytest.raises(
            ConfigError, match=rf"^config.yaml: {key}.*: got 'acme', expected a backend that can be used: "
        ):
            Config.parse({**raw, key: changed[key]}, {})


@pytest.mark.parametrize(
    ("spec", "environ", "asks"),
    [
        (SPEC.format(NAMED + ", api=2, flags=(Flag('ACME_ASK', requests=True),)"), {"ACME_ASK": "1"}, False),
        ("import absent_module\n", {"NSA_USE_ACME": "1"}, True),  # perhaps it is its own
        ("import absent_module\n", {"NSA_USE_ACME": "0", "NSA_PARENT": "1", "ACME_ASK": "1"}, False),
        (
            SPEC.format(NAMED + ", flags=(Flag('ACME_ASK', requests=True),)" + ARTIFACT.format("gate.json")),
            {"ACME_ASK": "1", "NSA_OTHER": "1"},
            True,
        ),
        (
            SPEC.format(NAMED + ", flags=(Flag('ACME_ASK', requests=True),)" + ARTIFACT.format("gate.json")),
            {"ACME_ASK": "0", "NSA_OTHER": "1"},
            False,
        ),
    ],
)
def test_a_flag_that_asks_for_a_broken_one_is_an_error(
    spec: str, environ: dict[str, str], asks: bool, tmp_path: Path
) -> None:
    """A request is not dropped in silence, even where the spec that would declare its flag cannot be read."""
    with installed(acme(tmp_path, spec)):
        if asks:
            with pytest.raises(
                ConfigError, match=r"^\w+: got '1', which may ask for a backend that cannot be used: back"
            ):
                Flags.from_env(environ)
        else:
            assert Flags.from_env(environ).requested == ()


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        (
            "Acme-2 = acme.spec:SPEC",
            r"backend 'Acme-2' \(acme\.spec:SPEC\): expected a name of small letters, digits and",
        ),
        ("a/b = acme.spec:SPEC", r"backend 'a/b' \(acme\.spec:SPEC\): expected a name of small letters, digits and _"),
        ("acme =", r"backend 'acme': got '', expected 'package\.module:NAME' in its entry point"),
        ("acme = acme.spec", r"backend 'acme': got 'acme\.spec', expected 'package\.module:NAME' in its entry point"),
        ("acme = a b:c", r"backend 'acme': got 'a b:c', expected 'package\.module:NAME' in its entry point"),
        ("acme = single:SPEC", r"backend 'acme': got 'single:SPEC', expected 'package\.module:NAME'"),
        (
            "acme = acme.spec:SPEC\nacme = acme.other:SPEC",
            r"backend 'acme' is declared twice: acme.other.* and acme.spec",
        ),
    ],
)
def test_a_bad_entry_point_is_left_out(entry_point: str, message: str, tmp_path: Path) -> None:
    """A name that no path can have, or two packages have, a line that leads nowhere, a spec without a folder."""
    with installed(acme(tmp_path, SPEC.format(NAMED), entry_point)):
        assert backends.names() == tuple(backends.BUILT_IN)
        (line,) = backends.warnings()
    assert re.match(message, line)


def test_an_entry_point_may_name_extras(tmp_path: Path) -> None:
    """As the packaging standard has it."""
    with installed(acme(tmp_path, SPEC.format(NAMED), "acme = acme.spec : SPEC [gpu]")):
        assert backends.names()[-1] == "acme" and backends.package("acme") == "acme"


def test_a_name_of_ours_cannot_be_taken(tmp_path: Path) -> None:
    """Which of the two was measured would be anybody's guess, so that nothing runs."""
    with (
        installed(acme(tmp_path, SPEC.format(NAMED), "sdpa = acme.spec:SPEC")),
        pytest.raises(
            ConfigError, match=r"backend 'sdpa' is declared twice: nsa\.kernels\.sdpa\.spec:SPEC and acme\.spec"
        ),
    ):
        backends.names()


@pytest.mark.parametrize("way", ["namespace", "zip"])
def test_sources_lie_in_a_folder(way: str, tmp_path: Path) -> None:
    """A package whose files nobody can digest would be credited with times of other code."""
    folder = acme(tmp_path / "site", SPEC.format(NAMED))
    if way == "namespace":
        (folder / "acme/__init__.py").unlink()
    else:
        folder = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    with installed(folder):
        (line,) = backends.warnings()
    assert "its package acme is no folder with an __init__.py" in line


@pytest.mark.parametrize("place", [Path("results"), Path("/tmp/elsewhere")])
def test_an_artifact_names_its_maker(place: Path, tmp_path: Path) -> None:
    """By its whole path below the results, not by how it happens to end."""
    spec = SPEC.format(NAMED + ARTIFACT.format("cuda.json"))
    with installed(acme(tmp_path, spec)):
        assert backends.maker(place / "build/cuda.json") == "cuda" and backends.maker(place / "cuda.json") == "acme"
        assert backends.maker(place / "rebuild/cuda.json") == "acme" and backends.maker(place / "tune/cuda.txt") is None
