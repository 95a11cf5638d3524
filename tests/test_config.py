import json

import pytest

from scrdit_jax.config import RunConfig, SamplingConfig, load_preset, preset_names, preset_path
from scrdit_jax.errors import BadConfig


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_valid_and_survive_json(name):
    config = load_preset(name)
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(config) == hash(load_preset(name))


def test_the_paper_preset_is_the_papers():
    config = load_preset("paper")
    assert (config.network.width, config.network.depth, config.network.heads) == (768, 3, 8)
    assert (config.network.genes_per_token, config.data.genes, config.data.zero_value) == (10, 2000, -10)
    assert (config.diffusion.prediction, config.diffusion.timesteps) == ("epsilon", 1000)
    assert (config.training.batch_size, config.training.learning_rate) == (16, 3e-4)
    assert config.training.ema_decay is None and not config.data.standardize and not config.network.summary_token


def test_a_preset_can_be_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"training": {"steps": 3}}')
    assert load_preset(str(path)).training.steps == 3
    assert preset_path("demo").is_file()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training": {"steps": 0}}, ["training", "steps is 0", "1 or more"]),
        ({"training": {"steps": 1.5}}, ["steps is 1.5", "whole number"]),
        ({"training": {"learning_rate": float("nan")}}, ["learning_rate is nan"]),
        ({"training": {"log_snr_mean": 0.0}}, ["log_snr_std", "give both"]),
        ({"network": {"width": 30, "heads": 4}}, ["width is 30", "multiple of heads (4)"]),
        ({"data": {"held_out": 1.0}}, ["held_out is 1.0", "at most 0.9"]),
        ({"data": {"zero_value": 5}}, ["zero_value is 5"]),
        ({"diffusion": {"prediction": "x"}}, ["prediction is 'x'", "epsilon, v"]),
        ({"diffusion": {"beta_start": 0.5, "beta_end": 0.1}}, ["beta_start", "below beta_end"]),
        ({"diffusion": {"timesteps": 100}}, ["alpha-bar", "raise beta_end"]),
        ({"diffusion": {"beta_end": 0.5}}, ["alpha-bar", "lower beta_end"]),
        ({"data": {"gene": 5}}, ["unknown name 'gene'", "genes"]),
        ({"dta": {}}, ["unknown name 'dta'", "data"]),
        ({"data": 5}, ["JSON object"]),
    ],
)
def test_what_is_wrong_is_named_with_its_rule(values, words):
    with pytest.raises(BadConfig) as caught:
        RunConfig.from_dict(values, source="file.json")
    assert all(word in str(caught.value) for word in ["file.json", *words]), caught.value


def test_settings_change_by_bare_name_in_every_section_that_has_it():
    config = RunConfig().with_settings({"seed": 3, "steps": 7})
    assert (config.data.seed, config.training.seed, config.training.steps) == (3, 3, 7)
    with pytest.raises(BadConfig, match=r"no setting is called 'stepz'; there are .*steps"):
        RunConfig().with_settings({"stepz": 7})


def test_differences_name_both_sides():
    assert RunConfig().with_settings({"steps": 7}).differences(RunConfig()) == ["training.steps: 7 here, 10000 there"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eta": 1.5}, ["eta is 1.5", "at most 1"]),
        ({"steps": 5, "acceleration": 2.0}, ["give one of them"]),
        ({"batch_size": 0}, ["batch_size is 0"]),
        ({"dtype": "int8"}, ["dtype is 'int8'", "bfloat16"]),
        ({"seed": -1}, ["seed is -1"]),
    ],
)
def test_sampling_settings_check_themselves(values, words):
    with pytest.raises(BadConfig) as caught:
        SamplingConfig(**values)
    assert all(word in str(caught.value) for word in words)
