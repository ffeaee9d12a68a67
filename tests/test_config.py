"""config.yaml and the flags: what is good loads, what is wrong is one line naming the key, the value and the fix."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from nsa.config import (
    BACKENDS,
    CheckSettings,
    Config,
    DecodeSettings,
    Flags,
    GateSettings,
    RooflineSettings,
    Target,
    load,
)
from nsa.errors import ConfigError

ROOT = Path(__file__).parents[1]
GOOD = yaml.safe_load((ROOT / "config.yaml").read_text())
MISSING = object()


def changed(key: str, value: object) -> dict[str, Any]:
    """The good configuration with one key (dotted) set to another value, or taken out."""
    raw: dict[str, Any] = copy.deepcopy(GOOD)
    *parents, last = key.split(".")
    section = raw
    for parent in parents:
        section = section[parent]
    if value is MISSING:
        del section[last]
    else:
        section[last] = value
    return raw


def test_the_repositorys_own_config_loads() -> None:
    """A config.yaml that its own schema refuses would stop the very first command."""
    config = load(ROOT / "config.yaml", {})
    assert config.contexts == (128, 256, 512, 1024) == config.target_contexts
    assert config.backends == ("sdpa", "cuda", "triton", "fa2")
    assert config.build_cuda == config.dram_ncu == "auto"
    assert config.gates.accept["speedup"] == 1.2


def test_config_file_holds_the_guides_defaults() -> None:
    """Two sets of defaults that drift apart would make the console commands measure something else than the pipeline."""
    config = Config.from_dict(GOOD, {})
    assert config.decode == DecodeSettings()
    assert config.check == CheckSettings()
    assert config.roofline == RooflineSettings()
    assert config.gates == GateSettings()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("contexts", [], "contexts: got [], expected a list of distinct whole numbers of at least 1"),
        ("contexts", [128, 128], "contexts: got [128, 128], expected a list of distinct"),
        ("contexts", [0], "contexts.0: got 0, expected a whole number of at least 1"),
        ("contexts", [128.0], "contexts.0: got 128.0, expected a whole number"),
        ("contexts", [131072], "contexts: got 131072, expected at most max_context = 65536"),
        ("target_contexts", "some", "target_contexts: got 'some', expected all, or a list of contexts"),
        ("target_contexts", [64], "target_contexts: got 64, expected one of contexts = [128, 256, 512, 1024]"),
        ("baseline", "flash", "baseline: got 'flash', expected one of sdpa, triton, cuda, fa2"),
        ("candidates", ["sdpa"], "candidates: got ['sdpa'], expected a list without the baseline 'sdpa'"),
        ("candidates", ["tilelang"], "candidates.0: got 'tilelang', expected one of sdpa"),
        ("device", "gpu", "device: got 'gpu', expected auto, cuda or cpu"),
        ("build.cuda", True, "build.cuda: got True, expected auto, require or skip"),
        ("dram.ncu", "always", "dram.ncu: got 'always', expected auto, require or skip"),
        ("decode", None, "decode: got None, expected type object"),
        ("decode.batch", True, "decode.batch: got True, expected a whole number of at least 1"),
        ("decode.iters", 0, "decode.iters: got 0, expected a whole number of at least 1"),
        ("decode.iters", 32.0, "decode.iters: got 32.0, expected a whole number of at least 1"),
        ("decode.seed", -1, "decode.seed: got -1, expected a whole number of at least 0"),
        ("decode.dtype.cuda", "int8", "decode.dtype.cuda: got 'int8', expected float32, float16 or bfloat16"),
        ("decode.model.heads", 7, "heads: got 7, expected a multiple of groups = 2"),
        ("decode.model.sel_count", 2, "decode.model.sel_count: got 2, expected a whole number from 3 to 64"),
        ("decode.model.phi", "max", "decode.model.phi: got 'max', expected mean or mlp"),
        ("check.rows", [256, 6], "check.rows, check.cpu_rows: got 6, expected a multiple of check.groups = 4"),
        ("check.cpu_rows", 7, "check.rows, check.cpu_rows: got 7, expected a multiple of check.groups = 4"),
        ("check.heads_per_group", [17], "check.heads_per_group.0: got 17, expected a whole number from 1 to 16"),
        ("roofline.rows", [4, 6], "roofline.rows: got 6, expected a multiple of roofline.groups = 4"),
        ("roofline.sel_count", [65], "roofline.sel_count.0: got 65, expected a whole number from 1 to 64"),
        ("roofline.targets.cuda.plus_us", -1, "roofline.targets.cuda.plus_us: got -1, expected a number of at least 0"),
        ("roofline.targets.tilelang", {}, "unknown key 'tilelang' in roofline.targets; known keys: sdpa, triton"),
        ("gates.confidence", 95, "gates.confidence: got 95, expected a number between 0.5 and 1"),
        ("gates.invest.go", 30, "gates.invest.go: got 30, expected a number from 0 to 1"),
        ("gates.invest.no_go", 0.5, "gates.invest.no_go: got 0.5, expected at most gates.invest.go = 0.3"),
        ("gates.accept.mae", "1e-3", "gates.accept.mae: got '1e-3', expected a number above 0"),
        ("gates.accept.mae", MISSING, "gates.accept lacks the key 'mae'; expected mae, speedup, error_ratio"),
        ("baseline", MISSING, "config.yaml lacks the key 'baseline'; expected contexts"),
        ("itres", 32, "unknown key 'itres' in config.yaml; known keys: contexts"),
        ("decode.model.n", 8, "unknown key 'n' in decode.model; known keys: dim, heads"),
    ],
)
def test_a_bad_setting_is_named(key: str, value: object, expected: str) -> None:
    """A wrong setting that slips through is measured as something else, or fails an hour later without a name."""
    with pytest.raises(ConfigError) as caught:
        Config.from_dict(changed(key, value), {})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"contexts: [128", "is not YAML"),
        (b"contexts: \xff\xfe", "is not YAML"),
        (b"- 128\n", "lacks the key 'contexts'"),
        (b"", "lacks the key 'contexts'"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    """A half-saved or wrongly encoded config.yaml would otherwise end in a traceback."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A mistyped --configfile must be told apart from an empty one."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read \(No such file"):
        load(tmp_path / "absent.yaml", {})


def test_the_targets_are_typed() -> None:
    """A target read from another place, or under another unit, would move the line that kernels are judged by."""
    assert Config.from_dict(GOOD, {}).targets == {"cuda": Target(1.10, 7.0), "triton": Target(1.25, 9.0)}


def test_contexts_are_sorted_and_targets_can_be_a_part() -> None:
    """The report's tables and the gate go by these lists; an unsorted one would shuffle the rows."""
    raw = changed("contexts", [1024, 128])
    raw["target_contexts"] = [1024]
    config = Config.from_dict(raw, {})
    assert config.contexts == (128, 1024)
    assert config.target_contexts == (1024,)


def test_flags_read_the_guides_variables() -> None:
    """A flag read under another name would silently do nothing, which is what the guide's users cannot see."""
    assert Flags.from_env({}) == Flags()
    every = Flags.from_env(
        {
            "NSA_SEL_CUDA_BUILD": "1",
            "NSA_SEL_CUDA": "1",
            "NSA_USE_TRITON_SEL": "1",
            "NSA_TRITON_SEL_FORCE": "1",
            "NSA_FA2_FORCE": "1",
        }
    )
    assert every == Flags(cuda_build=True, cuda=True, triton=True, triton_force=True, fa2_force=True)
    assert every.requested == ("cuda", "triton", "fa2")
    assert Flags.from_env({"NSA_SEL_CUDA": "0", "NSA_SEL_CUDA_BUILD": "0"}) == Flags(cuda_build=False)


def test_a_flag_that_is_neither_0_nor_1_is_refused() -> None:
    """NSA_FA2_FORCE=true read as unset would run the guarded backend's refusal without telling why."""
    with pytest.raises(ConfigError, match="NSA_FA2_FORCE: got 'true', expected 0, 1 or unset"):
        Flags.from_env({"NSA_FA2_FORCE": "true"})


@pytest.mark.parametrize(("value", "mode"), [("1", "require"), ("0", "skip"), ("", "auto")])
def test_the_build_flag_overrides_the_file(value: str, mode: str) -> None:
    """NSA_SEL_CUDA_BUILD=1 is the guide's way to ask for a build; without it config.yaml decides."""
    assert Config.from_dict(GOOD, {"NSA_SEL_CUDA_BUILD": value}).build_cuda == mode


def test_a_requested_backend_runs_once() -> None:
    """A flag must add its backend to the run, and not measure it twice where it is a candidate already."""
    config = Config.from_dict(changed("candidates", ["cuda"]), {"NSA_SEL_CUDA": "1", "NSA_USE_TRITON_SEL": "1"})
    assert config.backends == ("sdpa", "cuda", "triton")
    assert set(config.backends) <= set(BACKENDS)
