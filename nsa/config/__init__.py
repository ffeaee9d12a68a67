"""The typed configuration: config.yaml and the guide's environment flags, read once, here, at the edge."""

from nsa.config.document import attributed, read_document
from nsa.config.flags import BUILD, Flags, variables
from nsa.config.recorded import recorded
from nsa.config.sections import (
    AcceptThresholds,
    BuildSettings,
    CheckSettings,
    CoreCurveSettings,
    CoreSettings,
    CoreThresholds,
    CurveTarget,
    DecodeSettings,
    DramSettings,
    DtypeByDevice,
    GateSettings,
    InvestThresholds,
    RegressionThresholds,
    RooflineSettings,
    Target,
)
from nsa.config.whole import Config, load
from nsa.settings import parse

__all__ = [
    "BUILD",
    "AcceptThresholds",
    "BuildSettings",
    "CheckSettings",
    "Config",
    "CoreCurveSettings",
    "CoreSettings",
    "CoreThresholds",
    "CurveTarget",
    "DecodeSettings",
    "DramSettings",
    "DtypeByDevice",
    "Flags",
    "GateSettings",
    "InvestThresholds",
    "RegressionThresholds",
    "RooflineSettings",
    "Target",
    "attributed",
    "load",
    "parse",
    "read_document",
    "recorded",
    "variables",
]
