"""Finding nvcc: the order of the places, and what counts as a compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsa.machine import nvcc

BANNER = "nvcc: NVIDIA (R) Cuda compiler driver\nCuda compilation tools, release {release}, V{version}\n"


def install(folder: Path, version: str) -> Path:
    """A program named nvcc that answers `--version` as NVIDIA's does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nvcc"
    banner = BANNER.format(release=version.rpartition(".")[0], version=version)
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{banner}"\n')
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def only_these_site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Site-packages without anybody's nvidia packages; returns the folder, to install one."""
    monkeypatch.setattr("sys.path", [str(tmp_path / "site-packages")])
    return tmp_path / "site-packages"


def test_the_version_is_the_full_one(tmp_path: Path) -> None:
    """The version has the patch release: two of them make different code."""
    path = install(tmp_path / "bin", "13.0.88")
    assert nvcc.find({"PATH": str(tmp_path / "bin")}) == nvcc.Nvcc(path, "13.0.88")


def test_the_places_are_asked_in_order(tmp_path: Path) -> None:
    """CUDA_HOME comes first, then CUDA_PATH, PATH and the pip package."""
    home = install(tmp_path / "home" / "bin", "12.8.93")
    other = install(tmp_path / "other" / "bin", "12.9.86")
    path = install(tmp_path / "path", "13.0.88")
    package = install(tmp_path / "site-packages" / "nvidia" / "cu13" / "bin", "13.1.115")
    environ = {
        "CUDA_HOME": str(tmp_path / "home"),
        "CUDA_PATH": str(tmp_path / "other"),
        "PATH": f"{tmp_path / 'empty'}:{tmp_path / 'path'}",
    }
    for expected, taken_away in ((home, "CUDA_HOME"), (other, "CUDA_PATH"), (path, "PATH")):
        found = nvcc.find(environ)
        assert found is not None
        assert found.path == expected
        del environ[taken_away]
    assert nvcc.find(environ) == nvcc.Nvcc(package, "13.1.115")


def test_the_variables_that_it_obeys_tell_compilers_apart(tmp_path: Path) -> None:
    """Flags and folders that nvcc takes from the environment are part of what it is; others are not."""
    path = install(tmp_path, "13.0.88")
    environ = {"PATH": str(tmp_path), "HOME": "/home", "NVCC_PREPEND_FLAGS": ""}
    plain = nvcc.find(environ)
    assert plain == nvcc.Nvcc(path, "13.0.88") and plain.identity == "13.0.88"
    for name in ("NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "NVCC_CCBIN", "CPATH"):
        other = nvcc.find({**environ, name: "-use_fast_math"})
        assert other is not None and other.identity == f"13.0.88 {name}=-use_fast_math"


def test_the_older_pip_package_is_found(only_these_site_packages: Path) -> None:
    """The CUDA 12 package is found, which keeps its compiler in another folder than that of CUDA 13."""
    path = install(only_these_site_packages / "nvidia" / "cuda_nvcc" / "bin", "12.8.93")
    assert nvcc.find({}) == nvcc.Nvcc(path, "12.8.93")


@pytest.mark.parametrize("content", ["#!/bin/sh\necho no compiler here\n", "#!/absent/interpreter\n", ""])
def test_a_compiler_that_does_not_answer_is_none(tmp_path: Path, content: str) -> None:
    """A wrapper left over from a removed toolkit is no compiler, and no error."""
    install(tmp_path, "13.0.88").write_text(content)
    assert nvcc.find({"CUDA_HOME": "", "PATH": str(tmp_path)}) is None


def test_no_compiler_anywhere() -> None:
    """Without the toolkit the answer is None, and no error."""
    assert nvcc.find({}) is None


def test_a_compiler_that_hangs_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run does not wait for a compiler on a file system that is gone; the next one is asked."""
    monkeypatch.setattr(nvcc, "ANSWER_S", 0.2)
    hangs = tmp_path / "hangs" / "nvcc"
    hangs.parent.mkdir()
    hangs.write_text("#!/bin/sh\nexec sleep 60\n")
    hangs.chmod(0o755)
    works = install(tmp_path / "works", "13.0.88")
    assert nvcc.find({"PATH": f"{hangs.parent}:{works.parent}"}) == nvcc.Nvcc(works, "13.0.88")
    assert capsys.readouterr().err == f"warning: {hangs} --version says nothing in 0.2 s; it is passed over\n"
