"""The core's kernels in Triton's interpreter: in its own process, as TRITON_INTERPRET is read at import."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("interpreted.py")


def test_the_core_is_right_in_the_interpreter(pytestconfig: pytest.Config) -> None:
    """Every test of interpreted.py passes; its report is the message of a failure."""
    environ = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=5", str(CASES)]
    ran = subprocess.run(command, env=environ, cwd=pytestconfig.rootpath, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
