"""The Triton kernels in their interpreter: in a process of their own, as TRITON_INTERPRET is read at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = sorted(Path(__file__).parent.glob("*/interpreted.py"))


def test_the_kernels_are_right_in_the_interpreter(pytestconfig: pytest.Config) -> None:
    """Every test of each interpreted.py passes; their report is the message of a failure."""
    assert [path.parent.name for path in CASES] == ["parts", "triton", "triton_core"]
    environ = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", *map(str, CASES)]
    ran = subprocess.run(command, env=environ, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
