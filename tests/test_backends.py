"""Which backends there are: those of this repository, and installed ones by their entry points."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installed import distribution, installed

from nsa import backends
from nsa.config import Config, Flags, load, variables
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
    assert backends.names()[:4] == ("sdpa", "triton", "cuda", "fa2")
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


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (SPEC.format(NAMED + ", api=2"), r"BackendSpec 'acme', api 2, expected its BackendSpec of api 1"),
        (SPEC.format(NAMED + ", speed=9"), r"is no spec of api 1 \(.*unexpected keyword argument 'speed'\)"),
        (SPEC.format(NAMED.replace("'acme'", "'other'")), r"BackendSpec 'other', api 1, expected its BackendSpec"),
        ("SPEC = 1\n", r"is int '', api None, expected its BackendSpec of api 1"),
        ("", r"acme\.spec:SPEC cannot be imported \(module 'acme.spec' has no attribute 'SPEC'\)"),
        ("import absent_module\n", r"acme\.spec:SPEC cannot be imported \(No module named 'absent_module'\)"),
        ("SPEC =\n", r"acme\.spec:SPEC cannot be imported \(invalid syntax"),
        (
            SPEC.format(NAMED + ", flags=(Flag('ACME', requests=True),), guards=(Guard((8, 0), lifted_by='ACME'),)"),
            r"its guard is lifted by 'ACME', expected one of its flags that `affects`: none",
        ),
    ],
)
def test_a_broken_spec_is_one_line(spec: str, message: str, tmp_path: Path) -> None:
    """A spec that is none, or of another interface, is named with its package and the fix."""
    with installed(acme(tmp_path, spec)), pytest.raises(ConfigError, match=message) as caught:
        backends.spec("acme")
    assert "acme" in str(caught.value) and "fix or uninstall its package" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry_point", "message"),
    [
        ("sdpa = acme.spec:SPEC", r"backend 'sdpa' is declared twice: nsa\.kernels\.sdpa\.spec:SPEC and acme\.spec"),
        ("Acme-2 = acme.spec:SPEC", r"backend 'Acme-2' .*: expected a name of small letters, digits and _"),
    ],
)
def test_a_bad_name_is_one_line(entry_point: str, message: str, tmp_path: Path) -> None:
    """A name that is taken, or that no path and no stage can have, is an error before anything runs."""
    with installed(acme(tmp_path, SPEC.format(NAMED), entry_point)), pytest.raises(ConfigError, match=message):
        backends.names()


def test_two_packages_of_one_name_are_an_error(tmp_path: Path) -> None:
    """Neither of two installed backends of one name wins by chance."""
    acme(tmp_path, SPEC.format(NAMED))
    distribution(tmp_path, "emca", "acme = emca.spec:SPEC", {"emca/spec.py": ""})
    with installed(tmp_path), pytest.raises(ConfigError, match=r"backend 'acme' is declared twice: .*; expected one"):
        backends.names()


def test_a_spec_needs_a_package(tmp_path: Path) -> None:
    """A spec in a single module has no folder whose files could be its sources."""
    distribution(tmp_path, "acme", "acme = single:SPEC", {"single.py": SPEC.format(NAMED)})
    with installed(tmp_path), pytest.raises(ConfigError, match=r"got 'single:SPEC', expected 'package\.module:NAME'"):
        backends.spec("acme")
