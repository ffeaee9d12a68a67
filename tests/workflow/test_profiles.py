"""The profiles and the configurations of CI load, and say what docs/ci.md says of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from project import Project

from nsa.layout import Layout
from nsa.pipeline.stamps import read

DECISION = ("results/gate_report.md", "--configfile", "profiles/ci/decision.yaml")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--workflow-profile", "profiles/ci"), {"contexts": [128, 1024], "processes": 2, "iters": 4, "device": "cpu"}),
        (DECISION, {"contexts": [128, 256, 512, 1024], "processes": 10, "iters": 32, "device": "auto"}),
    ],
)
def test_a_run_of_ci_lays_its_settings_over_config_yaml(
    arguments: tuple[str, ...], expected: dict[str, Any], clone: Project
) -> None:
    """The run has the profile's values, and config.yaml's in every other key of the same sections."""
    assert "report" in clone.planned(*arguments)
    config = read(Layout(clone.root / "results").stamp("report")).settings["config"]
    assert isinstance(config, dict)
    found = {**config, **config["decode"]}  # type: ignore[dict-item]
    assert {key: found[key] for key in expected} == expected
    assert config["decode"]["model"] == yaml.safe_load((clone.root / "config.yaml").read_text())["decode"]["model"]
    assert config["check"]["processes"] == (10 if arguments == DECISION else 3)
