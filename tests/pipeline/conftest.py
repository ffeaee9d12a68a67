"""The configuration as it is shipped, and a backend that somebody else has installed."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from installed import distribution, installed

from nsa.pipeline import sources

ROOT = Path(sources.__file__).parents[2]
SPEC = """
from nsa.backends import BackendSpec, Flag, Stage

SPEC = BackendSpec(
    name="acme",
    require="acme.selection.backend:require",
    load="acme.selection.backend:load",
    flags=(Flag("ACME_FAST", affects=True), Flag("ACME_ASK", requests=True)),
    stage=Stage("acme.selection.prepare:run", "acme/plan.json", reads=("sizes", "flags"), uses=("nvcc",)),
    files=("../shared/*.cuh",),
)
"""
FILES = {
    "acme/__init__.py": "",
    "acme/unrelated.py": "import nsa.attention.rope\n",
    "acme/selection/__init__.py": "",
    "acme/selection/spec.py": SPEC,
    "acme/selection/backend.py": "import nsa.kernels.varlen\nfrom acme.selection import kernel\n",
    "acme/selection/kernel.py": "import acme.helper\n",
    "acme/selection/prepare.py": "",
    "acme/selection/kernel.cu": "// a kernel\n",
    "acme/selection/.cache/kernel.o": "",
    "acme/helper.py": "",
    "acme/shared/tile.cuh": "// shared with another\n",
}


@pytest.fixture
def raw() -> dict[str, Any]:
    """The content of config.yaml."""
    content: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
    return content


class Editable(importlib.abc.MetaPathFinder):
    """Finds one package somewhere else than on sys.path, as pip's editable installs do."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        start = self.folder / "__init__.py"
        return importlib.util.spec_from_file_location(fullname, start, submodule_search_locations=[str(self.folder)])


@pytest.fixture(params=["installed", "editable"])
def acme(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A backend in a package of its own, outside the repository; the folder that holds the package."""
    site, folder = distribution(tmp_path / "site", "acme", "acme = acme.selection.spec:SPEC", FILES), tmp_path / "site"
    if request.param == "editable":
        folder = tmp_path / "checkout"
        folder.mkdir()
        (site / "acme").rename(folder / "acme")
        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable("acme", folder / "acme")])
    sources._folder.cache_clear()
    with installed(site):
        yield folder
    for name in [name for name in sys.modules if name == "acme" or name.startswith("acme.")]:
        del sys.modules[name]
    sources._folder.cache_clear()
