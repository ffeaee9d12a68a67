"""The commit that the code is at, asked of its own git repository and of no other."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Variables that tell git of another repository than the one of the folder (`git rev-parse --local-env-vars`); its
# configuration, such as safe.directory, remains the user's.
ELSEWHERE = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
)
STATUS = ("status", "--porcelain=v2", "--branch", "--untracked-files=normal")


def commit(root: Path, environ: Mapping[str, str] = os.environ) -> tuple[str | None, bool | None, str | None]:
    """The commit of the code, whether anything differs from it (untracked files included), or why both are unknown.

    Args:
        root: the folder of the project, which must be the top of its repository: a folder of somebody else's
            repository, or of an environment inside one, is at no commit of ours.
        environ: its variables for git count, but for those that name another repository.
    """
    own = {name: value for name, value in environ.items() if name not in ELSEWHERE}
    try:
        top = _git(root, own, "rev-parse", "--show-toplevel")
        if top.returncode != 0:
            return None, None, _line(top.stderr)
        found = Path(top.stdout.rstrip("\n"))
        if not found.samefile(root):
            return None, None, f"{root} lies inside another git repository ({found})"
        answer = _git(root, own, *STATUS)
    except FileNotFoundError:
        return None, None, "git is not installed"
    if answer.returncode != 0:
        return None, None, _line(answer.stderr)
    lines = answer.stdout.splitlines()
    at = next(line.split()[-1] for line in lines if line.startswith("# branch.oid "))
    if at == "(initial)":
        return None, None, "the repository has no commit yet"
    return at, any(not line.startswith("#") for line in lines), None


def _git(root: Path, environ: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, env=dict(environ), capture_output=True, text=True, errors="replace", check=False)


def _line(said: str) -> str:
    return " ".join(said.split())
