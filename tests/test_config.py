"""config.yaml: what is good loads, what is wrong is one line naming the key, the value and the fix."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml
from configurations import GOOD, MISSING, ROOT, changed

from nsa.config import (
    CheckSettings,
    Config,
    DecodeSettings,
    GateSettings,
    RooflineSettings,
    Target,
    attributed,
    load,
    parse,
)
from nsa.errors import ConfigError


def test_the_repositorys_own_config_loads() -> None:
    """The committed config.yaml is valid."""
    config = load(ROOT / "config.yaml", {})
    assert config.contexts == (128, 256, 512, 1024) == config.targets
    assert config.backends == ("sdpa", "cuda", "triton", "fa2")
    assert config.build_mode == config.dram.ncu == "auto"
    assert config.gates.accept.speedup == 1.2
    assert config.decode.dtype.of("cuda") == "bfloat16" and config.decode.dtype.of("cpu") == "float32"


def test_config_file_holds_the_guides_defaults() -> None:
    """The console commands, which read no file, measure by default what the pipeline measures."""
    config = Config.parse(GOOD, {})
    assert config.decode == DecodeSettings()
    assert config.check == CheckSettings()
    assert config.roofline == RooflineSettings(targets=config.roofline.targets)
    assert config.gates == GateSettings()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("contexts", [], "contexts: got [], expected a list of distinct whole numbers of at least 1"),
        ("contexts", [128, 128], "contexts: got [128, 128], expected a list of distinct"),
        ("contexts", [0], "contexts.0: got 0, expected a whole number of at least 1"),
        ("contexts", [128.0], "contexts.0: got 128.0, expected a whole number"),
        ("contexts", ["128"], "contexts.0: got '128', expected a whole number of at least 1"),
        ("contexts", 128, "contexts: got 128, expected a list of distinct whole numbers"),
        ("contexts", [131072], "contexts: got 131072, expected at most max_context = 65536"),
        ("check.context", 65537, "check.context: got 65537, expected at most max_context = 65536"),
        ("check.cpu_context", 65537, "check.cpu_context: got 65537, expected at most max_context = 65536"),
        ("roofline.context", 65537, "roofline.context: got 65537, expected at most max_context = 65536"),
        ("core.contexts", [8192, 131072], "core.contexts: got 131072, expected at most max_context = 65536"),
        ("core.cpu_context", 65537, "core.cpu_context: got 65537, expected at most max_context = 65536"),
        ("max_context", 32768, "core.contexts: got 65536, expected at most max_context = 32768"),
        ("contexts", "all", "contexts: got 'all', expected auto, or a list of contexts"),
        ("target_contexts", "some", "target_contexts: got 'some', expected auto, all, or a list of contexts"),
        ("target_contexts", [], "target_contexts: got [], expected a list of distinct"),
        ("target_contexts", [0], "target_contexts.0: got 0, expected a whole number of at least 1"),
        ("target_contexts", [64], "target_contexts: got 64, expected one of contexts = [128, 256, 512, 1024]"),
        ("baseline", "flash", "baseline: got 'flash', expected one of sdpa, triton, cuda, fa2"),
        ("candidates", ["sdpa"], "candidates: got ['sdpa'], expected a list without the baseline 'sdpa'"),
        ("candidates", ["tilelang"], "candidates.0: got 'tilelang', expected one of sdpa"),
        ("device", "gpu", "device: got 'gpu', expected auto, cuda or cpu"),
        ("build.cuda", True, "build.cuda: got True, expected auto, require or skip"),
        ("dram.ncu", "always", "dram.ncu: got 'always', expected auto, require or skip"),
        ("decode", None, "decode: got None, expected a mapping with the keys batch, dtype, model"),
        ("decode.batch", True, "decode.batch: got True, expected a whole number of at least 1"),
        ("decode.iters", 0, "decode.iters: got 0, expected a whole number of at least 1"),
        ("decode.iters", 32.0, "decode.iters: got 32.0, expected a whole number of at least 1"),
        ("decode.timeout_s", float("inf"), "decode.timeout_s: got inf, expected a number above 0"),
        ("decode.timeout_s", float("nan"), "decode.timeout_s: got nan, expected a number above 0"),
        ("decode.timeout_s", 10**400, "decode.timeout_s: got 1000"),
        ("decode.timeout_s", 0, "decode.timeout_s: got 0, expected a number above 0"),
        ("decode.timeout_s", 3e6, "decode.timeout_s: got 3000000.0, expected a number above 0 and below a million"),
        ("decode.seed", 2**31, "decode.seed: got 2147483648, expected a whole number of at most 2147483647"),
        ("decode.model.window", 2**31, "decode.model.window: got 2147483648, expected a whole number of at most"),
        ("max_context", 2**31, "max_context: got 2147483648, expected a whole number of at most 2147483647"),
        ("decode.seed", -1, "decode.seed: got -1, expected a whole number of at least 0"),
        ("decode.dtype.cuda", "int8", "decode.dtype.cuda: got 'int8', expected float32, float16 or bfloat16"),
        ("decode.model.heads", 7, "decode.model.heads: got 7, expected a multiple of groups = 2"),
        (
            "decode.model.sel_count",
            2,
            "decode.model.sel_count: got 2, expected a whole number from 3 to 128 (block 0, ",
        ),
        ("decode.model.phi", "max", "decode.model.phi: got 'max', expected mean or mlp"),
        ("check.rows", [256, 6], "check.rows: got 6, expected a multiple of check.groups = 4"),
        ("check.cpu_rows", 7, "check.cpu_rows: got 7, expected a multiple of check.groups = 4"),
        ("check.heads_per_group", [17], "check.heads_per_group.0: got 17, expected a whole number from 1 to 16"),
        ("roofline.rows", [4, 6], "roofline.rows: got 6, expected a multiple of roofline.groups = 4"),
        ("roofline.sel_count", [129], "roofline.sel_count.0: got 129, expected a whole number from 1 to 128"),
        ("roofline.targets.cuda.plus_us", -1, "roofline.targets.cuda.plus_us: got -1, expected a number of at least 0"),
        (
            "roofline.targets.cuda",
            {"ratio": 1},
            "roofline.targets.cuda lacks the key 'plus_us'; expected ratio, plus_us",
        ),
        ("roofline.targets", None, "roofline.targets: got None, expected a mapping from backends to targets"),
        ("roofline.targets.tilelang", {}, "unknown key 'tilelang' in roofline.targets; known keys: sdpa, triton"),
        (
            "core_curve.targets.fused",
            [{"max_batch": 1, "ratio": 1, "plus_us": 1}],
            "core_curve.targets.fused.0 lacks the key 'min_context'; expected ratio, plus_us, max_batch, min_context",
        ),
        ("core_curve.targets.tilelang", [], "unknown key 'tilelang' in core_curve.targets; known keys: sdpa, triton"),
        ("core_curve.max_tokens", 0, "core_curve.max_tokens: got 0, expected a whole number of at least 1"),
        ("core_curve.max_tokens", 1023, "core_curve.max_tokens: got 1023, expected at least 1024, the tokens of the"),
        ("core.max_tokens", 8191, "core.max_tokens: got 8191, expected at least 8192, the tokens of the smallest"),
        ("gates.confidence", 95, "gates.confidence: got 95, expected a number between 0.5 and 1"),
        ("gates.invest.go", 30, "gates.invest.go: got 30, expected a number from 0 to 1"),
        ("gates.invest.no_go", 0.5, "gates.invest.no_go: got 0.5, expected at most gates.invest.go = 0.3"),
        ("gates.accept.mae", "0.5", "gates.accept.mae: got '0.5', expected a number above 0"),
        ("gates.accept.mae", "1e999", "gates.accept.mae: got '1e999', expected a number above 0"),
        ("gates.accept.mae", True, "gates.accept.mae: got True, expected a number above 0"),
        ("gates.accept.mae", MISSING, "gates.accept lacks the key 'mae'; expected mae, speedup, error_ratio"),
        ("baseline", MISSING, "config.yaml lacks the key 'baseline'; expected contexts"),
        ("decode.iters", MISSING, "decode lacks the key 'iters'; expected batch, dtype, model, parts, iters"),
        ("flags", {}, "unknown key 'flags' in config.yaml; known keys: contexts"),
        ("itres", 32, "unknown key 'itres' in config.yaml; known keys: contexts"),
        ("decode.model.n", 8, "unknown key 'n' in decode.model; known keys: dim, heads"),
        ("decoder", {}, "gates; did you mean decode?"),
        ("decode.itres", 3, "seed; did you mean iters?"),
        ("contexts", "\udcff", "contexts: got '\\\\udcff', expected auto, or a list of contexts"),
    ],
)
def test_a_bad_setting_is_named(key: str, value: object, expected: str) -> None:
    """A wrong setting is one line that names the file, the key, the value and what was expected."""
    with pytest.raises(ConfigError) as caught:
        Config.parse(changed(key, value), {})
    assert expected in str(caught.value)
    assert str(caught.value).startswith("config.yaml") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"contexts: [128", "is not YAML: line "),
        (b"a: 1\nb: {c: 1}}\n", "is not YAML: line 2, column 1"),
        (
            b"contexts: [1]\ndevice: cpu\ncontexts: [2]\n",
            "line 3: got 'contexts' again, expected each key once; it is in",
        ),
        (b"decode:\n  iters: 3\n  iters: 4\n", "line 3: got 'iters' again"),
        (b"contexts: \xff\xfe", "is not YAML"),
        (b"contexts: 2026-02-30\n", "is not YAML: day is out of range for month"),
        (b"contexts: " + b"9" * 5000, "is not YAML: Exceeds the limit"),
        (b"- 128\n", "config.yaml: got a list, expected keys with their values"),
        (b"contexts\n", "config.yaml: got a single value, expected keys"),
        (b"# nothing\n", "config.yaml: got nothing, expected keys"),
        (b"", "config.yaml: got nothing, expected keys"),
    ],
)
def test_a_broken_file_is_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    """A half-saved or wrongly encoded config.yaml is one line, no traceback."""
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["decode.seed", "decode.timeout_s", "contexts", "baseline"])
def test_a_number_of_thousands_of_digits_is_one_line(key: str) -> None:
    """YAML takes one in hexadecimal, which Python does not print."""
    with pytest.raises(ConfigError, match=rf"{key}: got a number of thousands of digits, expected "):
        Config.parse(changed(key, yaml.safe_load(f"0x1{'0' * 5000}")), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that is not there is not taken for an empty one."""
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read \(No such file"):
        load(tmp_path / "absent.yaml", {})


def test_an_exponent_without_a_point_is_a_number() -> None:
    """YAML 1.1 reads `mae: 1e-3` as text; where a number is expected it is one."""
    raw = changed("gates.accept", yaml.safe_load("{mae: 1e-3, speedup: 12E-1, error_ratio: 2}"))
    accept = Config.parse(raw, {}).gates.accept
    assert (accept.mae, accept.speedup, accept.error_ratio) == (1e-3, 1.2, 2.0)


def test_the_targets_are_typed() -> None:
    """Targets are by backend, and a backend may have none."""
    assert Config.parse(GOOD, {}).roofline.targets == {
        "cuda": Target(ratio=1.10, plus_us=7.0),
        "triton": Target(ratio=1.25, plus_us=9.0),
    }
    assert Config.parse(changed("roofline.targets", {}), {}).roofline.targets == {}


def test_a_file_of_overrides_lies_over_config_yaml(tmp_path: Path) -> None:
    """What `snakemake --configfile` takes, the other commands take."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("contexts: [64]\ndecode: {model: {dim: 512}}\n")
    config = load(mine, {}, under=ROOT / "config.yaml")
    assert config.contexts == (64,) and config.decode.model.dim == 512 and config.decode.iters == 32
    with pytest.raises(ConfigError, match="lacks the key"):
        load(mine, {})


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("config.yaml: contexts.0: got 0, expected 1", "--config: contexts.0: got 0, expected 1"),
        ("config.yaml: decode.iters: got 0, expected 1", "mine.yaml: decode.iters: got 0, expected 1"),
        ("config.yaml: decode.warmup: got -1, expected 0", "config.yaml: decode.warmup: got -1, expected 0"),
        ("config.yaml: device: got 'x', expected cpu", "config.yaml: device: got 'x', expected cpu"),
        ("NSA_SEL_CUDA: got 'x', expected 0 or 1", "NSA_SEL_CUDA: got 'x', expected 0 or 1"),
        ("config.yaml: unknown key 'odd' in config.yaml; known keys: a", "--config: unknown key 'odd'; known keys: a"),
        (
            "config.yaml: unknown key 'it' in decode; known keys: a",
            "mine.yaml: unknown key 'it' in decode; known keys: a",
        ),
        (
            "config.yaml: unknown key 'it' in check; known keys: a",
            "config.yaml: unknown key 'it' in check; known keys: a",
        ),
    ],
)
def test_a_wrong_value_is_named_after_what_gave_it(said: str, named: str) -> None:
    """Who typed a value at the command line looks for it there, not in a file."""
    mine = {"contexts": [1], "decode": {"iters": 0, "it": 3}}
    given = [("mine.yaml", mine), ("--config", {"contexts": [0], "odd": 1})]
    assert attributed(said, "config.yaml", given) == named


def test_contexts_are_sorted_and_targets_can_be_a_part() -> None:
    """Contexts and the contexts that decide are ascending, whatever their order in the file."""
    raw = changed("contexts", [1024, 128, 256])
    raw["target_contexts"] = [1024, 256]
    config = Config.parse(raw, {})
    assert config.contexts == (128, 256, 1024)
    assert config.targets == (256, 1024)


def test_cuda_adds_long_contexts_and_decides_on_them() -> None:
    """Where every block is selected the share says little, so a GPU measures beyond; a list is what it says."""

    def contexts(on_cuda: bool = True, **changes: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
        config = Config.parse(
            {**GOOD, "contexts": "auto", "target_contexts": "auto", **changes}, {}, on_cuda=lambda: on_cuda
        )
        assert Config.parse(config.document(), {}) == config  # what a report keeps is resolved
        return config.contexts, config.targets

    guide, long = (128, 256, 512, 1024), (4096, 16384, 65536)
    assert contexts(on_cuda=False) == contexts(device="cpu") == (guide, guide)
    assert contexts() == ((*guide, *long), long)
    short = {name: {**GOOD[name], "context": 1024} for name in ("check", "roofline")}
    short["core"] = {**GOOD["core"], "contexts": [1024]}
    assert contexts(max_context=5000, **short) == ((*guide, 4096), (4096,))
    assert contexts(max_context=2048, **short) == (guide, guide)
    assert contexts(target_contexts="all") == ((*guide, *long), (*guide, *long))
    assert contexts(target_contexts=[1024]) == ((*guide, *long), (1024,))
    assert contexts(contexts=[512, 4096]) == ((512, 4096), (512, 4096))


@pytest.mark.parametrize("targets", ["auto", "all", [128, 1024]])
def test_a_document_gives_the_same_configuration(targets: object) -> None:
    """What a stamp or an accepted run keeps of a configuration is JSON, and parsed is that configuration."""
    config = Config.parse(changed("target_contexts", targets), {"NSA_SEL_CUDA": "1"})
    document = json.loads(json.dumps(config.document(), allow_nan=False))
    assert set(document) == set(GOOD)
    assert Config.parse(document, {"NSA_SEL_CUDA": "1"}) == config


def test_a_configuration_reaches_a_process() -> None:
    """Settings are pickled on their way to a measuring process, and are equal there."""
    config = Config.parse(GOOD, {"NSA_SEL_CUDA": "1"})
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_section_is_parsed_alone() -> None:
    """A stage's stamp holds its own section; what is wrong with it is named with the stamp."""
    section = Config.parse(GOOD, {}).check.model_dump(mode="json")
    assert parse(CheckSettings, section, "check.json") == CheckSettings()
    with pytest.raises(ConfigError, match=r"^check\.json: seeds: got 0, expected a whole number of at least 1$"):
        parse(CheckSettings, {**section, "seeds": 0}, "check.json")
    with pytest.raises(ConfigError, match=r"^check\.json lacks the key 'rows'; expected rows, heads_per_group"):
        parse(CheckSettings, {}, "check.json")
    assert parse(CheckSettings, {"seeds": 3}, "check.json", complete=False) == CheckSettings(seeds=3)


def test_a_section_made_in_code_is_checked() -> None:
    """Outside of files keys have defaults, and wrong ones are the same errors."""
    assert DecodeSettings(iters=3).warmup == 8
    with pytest.raises(ConfigError, match=r"^iters: got 0, expected a whole number of at least 1$"):
        DecodeSettings(iters=0)
    with pytest.raises(ConfigError, match="unknown key 'itres' in the settings; known keys: batch"):
        DecodeSettings(itres=3)  # type: ignore[call-arg]
