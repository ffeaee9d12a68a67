"""docs/backend.md: what it shows is a whole backend, and it runs."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from installed import distribution, installed

from nsa import backends
from nsa.bench.method.accuracy import oracle, run_poisoned, worst_row_error
from nsa.bench.method.inputs import ragged_case
from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels import registry
from nsa.machine import environment
from nsa.machine.host import Artifact, Machine
from nsa.records import files
from nsa.records.shapes import CheckShape
from nsa.records.stamp import Sources, Stamp

ROOT = Path(__file__).parents[1]
OUTSIDE = ROOT / "tests" / "outside"
PAGE = (ROOT / "docs" / "backend.md").read_text()
SHOWN = dict(re.findall(r"^`(\S+\.py)`\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The package as the page shows it, installed."""
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    points = tomllib.loads(toml)["project"]["entry-points"][backends.GROUP]
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    folder = distribution(tmp_path_factory.mktemp("page"), "nsa_example", lines, SHOWN)
    with installed(folder):
        yield folder


@pytest.fixture(scope="module")
def artifact(page: Path) -> Artifact:
    """What the shown stage makes."""
    spec = backends.spec("example")
    assert spec.stage is not None
    stamp = Stamp(
        stage="artifact-example",
        sources=Sources(digest="s", files=()),
        settings={"device": "cpu"},
        settings_digest="c",
        machine={},
        machine_digest="m",
    )
    files.write_model(page / "stamp.json", stamp)
    files.write_model(page / "environment.json", environment.probe())
    out = page / "results" / spec.stage.artifact
    backends.resolve(spec.stage.entry)(page / "stamp.json", page / "environment.json", out)
    return files.read_json(out)


def test_the_page_shows_the_package_that_the_tests_use() -> None:
    """The page's files and its entry point are those of tests/outside."""
    package = {file.relative_to(OUTSIDE).as_posix(): file.read_text() for file in OUTSIDE.glob("nsa_example/*.py")}
    assert package == SHOWN
    assert "example = nsa_example.spec:SPEC" in (OUTSIDE / "nsa_example-1.0.dist-info/entry_points.txt").read_text()


def test_every_part_of_the_interface_is_explained() -> None:
    """The page has a row for each field of a spec and of its stage."""
    fields = {*backends.BackendSpec.__dataclass_fields__} - {"contracts"}
    fields |= {f"stage.{name}" for name in backends.Stage.__dataclass_fields__} - {"stage.entry", "stage.artifact"}
    rows = set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE))
    assert fields - rows <= {"stage.uses"}  # with `uses`
    assert rows <= fields


@pytest.mark.parametrize("way", ["matmul", "sum"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_kernel_is_right(way: str, dtype: str, artifact: Artifact) -> None:
    """Both ways equal the oracle on ragged lengths, empty rows and padding, and read nothing beyond a length."""
    backend = registry.load("example", Machine(None, {"example": {**artifact, "way": way}}), Flags())
    for seed in range(4):
        call = ragged_case(CheckShape(16, 4, 64, 32, 8, 64, 500, 4, dtype), seed, CPU)
        output, fault = run_poisoned(backend.selection, call)
        assert fault is None
        assert worst_row_error(output, oracle(call)) < {"float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}[dtype]


def test_the_stage_makes_what_the_kernel_reads(artifact: Artifact) -> None:
    """The artifact says which way is faster here, and the loaded backend notes that it goes this way."""
    assert artifact["status"] == "ok" and artifact["way"] in ("matmul", "sum")
    assert artifact["stamp"] == {"sources": "s", "settings": "c", "machine": "m"}
    backend = registry.load("example", Machine(None, {"example": artifact}), Flags())
    assert backend.notes() == [{"way": artifact["way"]}]
    json.dumps(backend.notes())


def test_it_refuses_where_it_cannot_run(artifact: Artifact) -> None:
    """Without its stage, after one that failed, with a broken artifact, and where it is guarded it is unavailable."""
    made = {"example": artifact}
    for machine, reason in [
        (Machine(None), "its stage has not run"),
        (Machine(None, {"example": {"status": "failed", "fix": "look"}}), "its stage ended as failed"),
        (Machine(None, {"example": {**artifact, "way": "none"}}), "its artifact names the way 'none'"),
        (Machine((8, 9), made), "it is guarded on compute capability 8.9"),
    ]:
        with pytest.raises(BackendUnavailable) as caught:
            registry.load("example", machine, Flags())
        assert caught.value.reason.startswith(reason)
    registry.load("example", Machine((8, 9), made), Flags({"NSA_EXAMPLE_FORCE": True}))
