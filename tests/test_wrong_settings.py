"""Every field of every config against wrong values of every type, and JSON that is none."""

import json
import math
import os
from dataclasses import dataclass, fields

import numpy as np
import pytest

from scrdit_jax import strict_json
from scrdit_jax.benchmarking.harness import Settings
from scrdit_jax.config import DataConfig, DiffusionConfig, RunConfig, SamplingConfig, TrainingConfig, load_preset
from scrdit_jax.config.checks import check_fields, rules_of
from scrdit_jax.config.run_config import SECTIONS
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation.plan import Plan
from scrdit_jax.networks.dit import DiTConfig
from scrdit_jax.networks.unet import UNetConfig
from scrdit_jax.registry import NETWORKS

CONFIGS = (DataConfig, DiffusionConfig, TrainingConfig, SamplingConfig, DiTConfig, UNetConfig, Settings)
OTHERS = {Plan: {"cells": 8, "batch_size": 1, "shard_cells": 1}}
FIELDS = [(config, field) for config in (*CONFIGS, *OTHERS) for field in fields(config) if field.init]
WRONG = [
    None, True, "no", "", "abc", "a\0b", "\ud800", "9" * 5000, b"abc", -1, 0, 1, 1.5, 1e12, 10**12, 2**64, 10**400,
    -(10**400), 10**5000, 1e308, -1e308, math.nan, math.inf, -math.inf, [], {}, [[[[[]]]]], {"a": {"b": []}}, ["a", 5],
    [None], [["a", 1, 2]], [[None, None]], [[["a"], 1]], {"a": math.nan}, {"": 1}, {"pc-scores": 10**400}, {5: 5},
    [["a", 1], ["a", 2]], object(), np.zeros(10**6), np.array("x"), np.float32("nan"), np.datetime64("2020"), 1j, set(),
]  # fmt: skip


def is_of(kind: str, value: object) -> bool:
    """Whether a value may stand in a field that is annotated so, whatever its range."""
    if value is None:
        return "None" in kind
    if isinstance(value, bool):
        return "bool" in kind
    number = isinstance(value, int | float | np.floating) and math.isfinite(value if abs(value) < 2**70 else math.nan)
    if isinstance(value, str):
        return kind.startswith(("str", "Annotated[str")) and "\0" not in value and len(value) < 5000
    if isinstance(value, int):
        return number and ("int" in kind or "float" in kind) and "bool" not in kind
    if isinstance(value, float | np.floating):
        return number and "float" in kind
    return isinstance(value, list | dict) and any(word in kind for word in ("tuple", "Mapping", "ByColumn"))


@pytest.mark.parametrize(("config", "field"), FIELDS, ids=lambda part: getattr(part, "__name__", None) or part.name)
def test_every_field_refuses_what_is_wrong_in_one_line(config, field):
    given, kind = OTHERS.get(config, {}), str(field.type)
    for value in WRONG:
        try:
            made = config(**(given | {field.name: value}))
        except BadConfig as error:
            text = str(error)
            assert "\n" not in text, text
            assert len(text) < 500, text
            # An empty value, and one in range that does not fit another field, are said by other names.
            assert field.name in text or is_of(kind, value), (value, text)
        else:
            assert is_of(kind, value), f"{config.__name__}.{field.name} takes {value!r:.80}"
            hash(made)
            strict_json.parse(json.dumps(getattr(made, field.name)))


@pytest.mark.parametrize(("config", "field"), FIELDS, ids=lambda part: getattr(part, "__name__", None) or part.name)
def test_every_number_has_two_bounds(config, field):
    rule = rules_of(config)[field.name]
    if "int" in str(field.type) or "float" in str(field.type):
        for value in (10**31, 1e31, -1.0, -1e31):
            if field.name in ("zero_value", "log_snr_mean") and value == -1.0:
                continue
            with pytest.raises(BadConfig, match=field.name):
                rule(field.name, value)


def test_all_configs_are_here():
    known = {*SECTIONS.values(), *(network.config for network in NETWORKS.values())}
    assert {config for config in known if isinstance(config, type) and hasattr(config, "__dataclass_fields__")} <= {
        *CONFIGS
    }


def test_a_field_without_a_rule_is_found_at_once():
    @dataclass(frozen=True)
    class New:
        good: bool = True
        bad: int = 5

        def __post_init__(self):
            check_fields(self)

    with pytest.raises(TypeError, match=r"New.bad has no rule; write Annotated\["):
        New()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data": {"standardize": "no"}}, "data: standardize is 'no'; it must be true or false"),
        ({"data": {"condition_on": None}}, "data: condition_on is None; it must be a list of texts"),
        ({"data": {"condition_on": "abc"}}, "data: condition_on is 'abc'; it must be a list of texts"),
        ({"data": {"cell_types": [5]}}, "data: cell_types[0] is 5; it must be a text"),
        ({"training": {"stratified_levels": 1}}, "training: stratified_levels is 1; it must be true or false"),
        ({"training": {"steps": 10**400}}, "steps is a number of about 401 digits; it must be a whole number"),
        ({"training": {"teacher": 5}}, "training: teacher is 5; it must be a text"),
        ({"diffusion": {"timesteps": 10**12}}, "timesteps is 1000000000000; it must be a whole number, 2 or more"),
        ({"network": {"depth": [3]}}, "network: depth is [3]; it must be a whole number"),
        ({"network": {"architecture": ["dit"]}}, "architecture is ['dit']; it must be one of dit, unet"),
        ({"data": {"seed": 2**32}}, "data: seed is 4294967296; it must be a whole number, 0 or more and at most 4,29"),
        ({"origin": 5}, "origin is 5; it must be a text"),
        ({"format": 10**5000}, "format a number of about 5001 digits is not known here"),
        ({"x" * 5000: 5}, "unknown name 'xxx"),
        ({"data": None}, "data: a JSON object is expected, not NoneType"),
        (5, "a JSON object is expected, not int"),
        ([], "a JSON object is expected, not list"),
    ],
)
def test_a_config_names_section_field_value_and_rule(values, words):
    with pytest.raises(BadConfig) as caught:
        RunConfig.from_dict(values, source="file.json")
    text = str(caught.value)
    assert words in text
    assert text.startswith("file.json: ")
    assert len(text) < 400


@pytest.mark.parametrize(
    "values", [{"data": 5}, {"network": DataConfig()}, {"network": None}, {"training": {}}, {"origin": 5}]
)
def test_a_run_config_is_made_of_configs(values):
    with pytest.raises(BadConfig, match=f"{next(iter(values))} is .*; it must be "):
        RunConfig(**values)


def test_numpys_scalars_are_numbers():
    made = TrainingConfig(
        steps=np.int64(5), learning_rate=np.float32(0.5), stratified_levels=np.True_, seed=np.uint8(3)
    )
    assert made == TrainingConfig(steps=5, learning_rate=0.5, stratified_levels=True, seed=3)
    assert [type(v) for v in (made.steps, made.learning_rate, made.stratified_levels)] == [int, float, bool]
    assert DataConfig(condition_on=np.array(["a", "b"]), derive={"pc-scores": np.int32(3)}) == DataConfig(
        condition_on=["a", "b"], derive=(("pc-scores", 3),)
    )
    json.dumps(made.__dict__)


def test_limits_of_seeds_are_the_same_everywhere():
    for config in (DataConfig, TrainingConfig, SamplingConfig):
        assert config(seed=2**32 - 1).seed == 2**32 - 1
        for seed in (-1, 2**32, 2**64, 1.0, True, "1"):
            with pytest.raises(BadConfig, match=r"seed is .*; it must be a whole number, 0 or more and at most 4,294"):
                config(seed=seed)


NO_JSON = {
    '{"training": {"steps": 3}, "training": {"steps": 4}}': "an object has 'training' twice",
    '{"training": {"steps": 3, "steps": 4}}': "an object has 'steps' twice",
    '{"training": {"learning_rate": NaN}}': "NaN is no number of JSON",
    '{"training": {"learning_rate": -Infinity}}': "-Infinity is no number",
    '{"training": {"learning_rate": 1e999}}': "1e999 is too large a number",
    '{"training": {"steps": ' + "9" * 5000 + "}}": "a whole number has 5000 digits",
    "[" * 200_000: "too deep in each other",
    '{"a":' * 200_000: "too deep in each other",
    "": "Expecting value",
    "{": "Expecting property name",
    '{"a": 1} {"b": 2}': "Extra data",
    b"\xff\xfe{\x00}\x00": "not UTF-8: byte 0 is 0xff",
    b'{"a": "\xe9"}': "not UTF-8: byte 7 is 0xe9",
    "{'a': 1}": "Expecting property name",
    '"data"': "a JSON object is expected, not str",
    "null": "a JSON object is expected, not NoneType",
    '{"data": {"cell_type_key": "\\ud800"}}': "cell_type_key is",
    '{"data": {"cell_type_key": "a\\u0000"}}': "cell_type_key is",
}


@pytest.mark.parametrize(("content", "words"), NO_JSON.items(), ids=range(len(NO_JSON)))
def test_a_preset_that_is_no_json_is_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BadConfig) as caught:
        load_preset(str(path))
    text = str(caught.value)
    assert str(path) in text
    assert words in text
    assert len(text.splitlines()) == 1
    assert len(text) < 500


def test_a_preset_of_a_gigabyte_or_no_file_at_all_is_not_waited_for(tmp_path):
    large, fifo, folder = (tmp_path / name for name in ("large.json", "fifo.json", "folder.json"))
    with large.open("wb") as file:
        file.truncate(1 << 30)
    os.mkfifo(fifo)
    folder.mkdir()
    (tmp_path / "loop.json").symlink_to("loop.json")
    for path, words in (
        (large, "larger than 10 MB"), (fifo, "no regular file"), (folder, "cannot be read"),
        (tmp_path / "loop.json", "no preset"), (tmp_path / ("x" * 300 + ".json"), "no preset"),
    ):  # fmt: skip
        with pytest.raises(BadConfig, match=words):
            load_preset(str(path))


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "mine.json"
    path.write_bytes(b'\xef\xbb\xbf{"training": {"steps": 3}}')
    assert load_preset(path).training.steps == 3


def test_our_own_measurements_may_be_no_numbers(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text('{"a": NaN, "b": -Infinity}')
    values = strict_json.read(path, nan=True)
    assert math.isnan(values["a"])
    assert values["b"] == -math.inf
