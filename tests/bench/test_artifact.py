"""A backend's own stage: what it raises, and what it does not write, is its failure and nobody else's."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from standins import DIGESTS, stage_inputs

from nsa.bench import artifact
from nsa.bench.tune import stage as tune
from nsa.errors import BackendUnavailable, ConfigError, Disturbed, Killed, RecordError
from nsa.kernels.cuda import build
from nsa.kernels.extension import manifest as manifests
from nsa.records import files
from nsa.records import stamp as stamps
from nsa.records.stamp import Sources, digest

Stage = Callable[[Path, Path, Path], None]
GOOD = {"status": "built", "reason": None, "fix": None, "more": [1]}


def writes(content: str) -> Stage:
    """A stage that writes this."""

    def run(stamp: Path, environment: Path, out: Path) -> None:
        out.write_text(content)

    return run


def raises(error: BaseException, half: str | None = None) -> Stage:
    """A stage that raises this, perhaps after it has written something."""

    def run(stamp: Path, environment: Path, out: Path) -> None:
        if half is not None:
            out.write_text(half)
        raise error

    return run


def made(stage: Stage, folder: Path, monkeypatch: pytest.MonkeyPatch, module: object = build) -> dict[str, object]:
    """The artifact after a stage of the cuda backend, or of its tuned sibling, that does this; an old one lay there."""
    monkeypatch.setattr(module, "run", stage)
    out = folder / "build" / "cuda.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({**GOOD, "old": True}))
    artifact.run("cuda" if module is build else "triton", *stage_inputs(folder, "artifact-cuda", {}), out)
    found: dict[str, object] = json.loads(out.read_text())
    return found


@pytest.mark.parametrize(("backend", "module"), [("cuda", build), ("triton", tune)])
def test_the_function_that_the_spec_names_writes_the_artifact(
    backend: str, module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given the stamp, the environment and where to write, and what it writes stays as it is."""
    assert made(writes(json.dumps(GOOD)), tmp_path, monkeypatch, module) == GOOD


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        (raises(ValueError("a bug\nand more")), "ValueError: a bug"),
        (raises(SystemExit("setup.py gave up")), "SystemExit: setup.py gave up"),
        (raises(AssertionError(), half='{"status": '), "AssertionError: AssertionError"),
        (raises(PermissionError(errno.EACCES, "denied")), "PermissionError: [Errno 13] denied"),
        (
            raises(BackendUnavailable("cuda", "no compiler", "install one")),
            "backend 'cuda' is unavailable: no compiler",
        ),
        (lambda *_: None, "it wrote no artifact"),
        (writes(""), "is not JSON"),
        (writes('{"status": "ok"'), "is not JSON"),
        (writes("[1, 2]"), "got a JSON list, expected an object"),
        (writes('{"reason": null, "fix": null}'), "its artifact has nothing for status, expected text"),
        (writes('{"status": null, "reason": null, "fix": null}'), "its artifact has None for status, expected text"),
        (writes('{"status": "ok", "reason": 3, "fix": null}'), "its artifact has 3 for reason, expected text or null"),
        (writes('{"status": "ok", "reason": null}'), "its artifact has nothing for fix, expected text or null"),
    ],
)
def test_what_a_stage_does_wrong_is_its_artifact(
    stage: Stage, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The artifact says `failed` with the first line, the log and the stamp, and the backend's own reader takes it."""
    found = made(stage, tmp_path, monkeypatch)
    assert found["status"] == "failed" and str(found["reason"]).startswith(f"nsa.kernels.cuda.build:run: {reason}")
    assert str(found["fix"]).startswith("see results/logs/artifact_cuda.log; then delete ")
    assert found["stamp"] == DIGESTS.model_dump()
    assert manifests.of("cuda", found).status == "failed"  # type: ignore[arg-type]


def test_a_stage_that_is_not_there_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt entry costs its backend and no other."""
    monkeypatch.delattr(build, "run")
    out = tmp_path / "cuda.json"
    artifact.run("cuda", *stage_inputs(tmp_path, "artifact-cuda", {}), out)
    assert "nsa.kernels.cuda.build:run cannot be imported" in json.loads(out.read_text())["reason"]


@pytest.mark.parametrize(
    "error",
    [Killed("from outside"), RecordError("no environment"), ConfigError("device"), OSError(errno.ENOSPC, "full")],
)
def test_what_is_no_fault_of_the_stage_ends_the_job(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill, a broken input, a full disk: nothing is recorded, and the next run does it again."""
    with pytest.raises(type(error)) as caught:
        made(raises(error), tmp_path, monkeypatch)
    assert caught.value is error and not (tmp_path / "build/cuda.json").exists()


def test_a_bug_of_our_own_tuning_is_no_backends_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage outside of its backend's package is the harness."""
    with pytest.raises(KeyError):
        made(raises(KeyError("a bug")), tmp_path, monkeypatch, tune)


def test_a_backend_without_a_stage_has_no_artifact(tmp_path: Path) -> None:
    """One clear line instead of a traceback."""
    with pytest.raises(
        ConfigError, match="--backend: got 'sdpa', which has no stage of its own; expected triton, cuda"
    ):
        artifact.run("sdpa", tmp_path, tmp_path, tmp_path / "out.json")


def test_an_artifact_of_a_source_that_was_edited_meanwhile_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was built partly from another source is of no sources that its stamp could name."""
    source, out = tmp_path / "kept_apart" / "kernel.py", tmp_path / "build" / "cuda.json"
    files.write_text(source, "BLOCK = 64\n")
    files.write_text(source.parent / "__init__.py", "")
    monkeypatch.syspath_prepend(str(tmp_path))
    stamp, environment = stage_inputs(tmp_path, "artifact-cuda", {})
    name = "kept_apart/kernel.py"
    sources = Sources(digest=digest({name: source}), files=(name,))
    files.write_model(stamp, stamps.read(stamp).model_copy(update={"sources": sources}))

    def edits(stamp: Path, environment: Path, out: Path) -> None:
        files.write_text(out, json.dumps(GOOD))
        files.write_text(source, "BLOCK = 32\n")

    monkeypatch.setattr(build, "run", writes(json.dumps(GOOD)))
    out.parent.mkdir()
    artifact.run("cuda", stamp, environment, out)
    assert out.is_file()
    monkeypatch.setattr(build, "run", edits)
    with pytest.raises(Disturbed, match="was edited while it ran"):
        artifact.run("cuda", stamp, environment, out)
    assert not out.exists()
