"""How to make a report again: the file holds the run's configuration, the commands its flags."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from nsa import cli
from nsa.config import Config
from nsa.layout import Layout
from nsa.report.page.reproduce import commands, run_file

RAW = yaml.safe_load((Path(cli.__file__).parents[2] / "config.yaml").read_text())


@pytest.mark.parametrize("environ", [{}, {"NSA_SEL_CUDA_BUILD": "1", "NSA_FA2_FORCE": "0"}])
def test_file_and_commands_give_the_same_configuration(environ: dict[str, str]) -> None:
    """What the two say together is what ran."""
    config = Config.parse({**RAW, "contexts": [4096, 65536]}, environ)
    *_, run, check = commands(config, ["abc"], Layout()).splitlines()
    words = shlex.split(run)
    flags = (
        dict(word.split("=") for word in words[words.index("env") + 1 : words.index("snakemake")]) if environ else {}
    )
    assert Config.parse(yaml.safe_load(run_file(config)), flags) == config
    assert words[-4:] == ["1", "results/gate_report.md", "--configfile", "run.yaml"]
    assert check == "python -m nsa check"


def test_any_shell_takes_the_commands_as_they_are() -> None:
    """No comment, quote, variable or assignment, which shells take differently."""
    config = Config.parse(RAW, {"NSA_SEL_CUDA_BUILD": "1"})
    pasted = commands(config, ["abc"], Layout())
    assert not set(pasted) & set("#'\"$;&|<>(){}[]*?!~`\\")
    assert pasted.splitlines()[:2] == ["git checkout abc", "cp results/run.yaml run.yaml"]
    assert "git" not in commands(config, ["abc", "def"], Layout())
