"""The commit that a record is of: that of the project's own repository, or none, with the reason."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from nsa.machine.repository import ELSEWHERE, commit


def git(root: Path, *arguments: str) -> str:
    """Run git in a folder, as somebody."""
    identity = ["-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def repository(root: Path) -> str:
    """Make a repository of one commit; returns the commit."""
    root.mkdir(exist_ok=True)
    git(root, "init", "--quiet")
    (root / "kernel.py").write_text(str(root))
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "one")
    return git(root, "rev-parse", "HEAD")


def test_it_follows_the_repository(tmp_path: Path) -> None:
    """The commit, and whether anything differs from it."""
    assert "not a git repository" in str(commit(tmp_path)[2])

    git(tmp_path, "init", "--quiet")
    assert commit(tmp_path) == (None, None, "the repository has no commit yet")

    head = repository(tmp_path)
    assert commit(tmp_path) == (head, False, None)

    (tmp_path / "other.py").write_text("2")
    assert commit(tmp_path) == (head, True, None)
    git(tmp_path, "config", "status.showUntrackedFiles", "no")
    assert commit(tmp_path) == (head, True, None)


@pytest.mark.parametrize("folder", ["project", "vendored/project", ".venv/lib/python3.12/site-packages"])
def test_another_repository_around_it_is_not_ours(folder: str, tmp_path: Path) -> None:
    """The project unpacked, or installed, somewhere inside another repository is at none of its commits."""
    repository(tmp_path)
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "nsa.py").write_text("tracked by the other one")
    git(tmp_path, "add", ".")
    assert commit(tmp_path / folder) == (
        None,
        None,
        f"{tmp_path / folder} lies inside another git repository ({tmp_path})",
    )


def test_a_worktree_and_a_link_are_ours(tmp_path: Path) -> None:
    """A worktree has a commit of its own, and a folder may be reached by a link."""
    repository(tmp_path / "project")
    git(tmp_path / "project", "worktree", "add", "--quiet", str(tmp_path / "other"), "-b", "other")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    assert commit(tmp_path / "link") == (git(tmp_path / "other", "rev-parse", "HEAD"), False, None)


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR"])
def test_variables_of_another_repository_do_not_count(variable: str, tmp_path: Path) -> None:
    """A git hook, or a shell that works elsewhere, does not say where we are."""
    head, _ = repository(tmp_path / "project"), repository(tmp_path / "other")
    place = {"GIT_WORK_TREE": "", "GIT_INDEX_FILE": ".git/no-index"}.get(variable, ".git")
    elsewhere = {variable: str(tmp_path / "other" / place)}
    assert commit(tmp_path / "project", {**os.environ, **elsewhere}) == (head, False, None)
    if variable == "GIT_DIR":
        without = tmp_path / "unpacked"
        without.mkdir()
        assert "not a git repository" in str(commit(without, {**os.environ, **elsewhere})[2])


def test_git_names_no_other_variable_of_a_repository() -> None:
    """What git itself counts as of one repository, its configuration apart, is left out."""
    listed = subprocess.run(["git", "rev-parse", "--local-env-vars"], capture_output=True, text=True, check=True)
    kept = ("GIT_CONFIG", "GIT_NO_REPLACE_OBJECTS", "GIT_REPLACE_REF_BASE", "GIT_INTERNAL_SUPER_PREFIX")
    assert {name for name in listed.stdout.split() if not name.startswith(kept)} <= {*ELSEWHERE}


def test_a_repository_that_git_does_not_trust_is_one_line(tmp_path: Path) -> None:
    """What git says of it over several lines is one."""
    repository(tmp_path)
    untrusting = {"GIT_TEST_ASSUME_DIFFERENT_OWNER": "1", "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(tmp_path)}
    at, dirty, reason = commit(tmp_path, {**os.environ, **untrusting})
    assert at is dirty is None
    assert reason is not None and "dubious ownership" in reason and "\n" not in reason


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where git is not installed the missing commit is explained."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(tmp_path) == (None, None, "git is not installed")
