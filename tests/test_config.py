import json
import subprocess
import sys

import pytest

from scrdit_jax.config import RunConfig, SamplingConfig, load_preset, preset_names, preset_path
from scrdit_jax.config.run_config import settings_of
from scrdit_jax.errors import BadConfig
from scrdit_jax.networks.dit import DiTConfig
from scrdit_jax.networks.unet import UNetConfig


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
    assert config.training.ema_decay is None
    assert not config.data.standardize
    assert not config.network.summary_token


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
        ({"diffusion": {"prediction": "x"}}, ["prediction is 'x'", "epsilon, mixture"]),
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
        ({"dtype": "int4"}, ["dtype is 'int4'", "bfloat16", "int8, fp8"]),
        ({"seed": -1}, ["seed is -1"]),
    ],
)
def test_sampling_settings_check_themselves(values, words):
    with pytest.raises(BadConfig) as caught:
        SamplingConfig(**values)
    assert all(word in str(caught.value) for word in words)


def saved(network: dict, **changes) -> dict:
    """Settings as they were saved before they had a format: those of all networks in one section."""
    every = {"genes_per_token": 20, "width": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0, "summary_token": False}
    every |= {"positions": "sincos", "first_timestep": 0, "channels": 16}
    return {"network": every | network, **changes}


def test_settings_saved_before_they_had_a_format_are_read():
    dit = RunConfig.from_dict(saved({"architecture": "dit"})).network
    assert dit == DiTConfig(genes_per_token=20, width=32, depth=2, heads=2, first_timestep=0)
    unet = RunConfig.from_dict(saved({"architecture": "unet"})).network
    assert unet == UNetConfig(channels=16, heads=2, first_timestep=0)
    with pytest.raises(BadConfig, match="old: network: unknown name 'chanels'"):
        RunConfig.from_dict(saved({"chanels": 3}), source="old")


def test_settings_have_a_format_and_only_their_own_networks():
    values = RunConfig().to_dict()
    assert values["format"] == 3
    assert values["network"] == {"architecture": "dit"} | {
        field: getattr(RunConfig().network, field) for field in settings_of(DiTConfig)
    }
    values["network"]["channels"] = 64
    with pytest.raises(BadConfig, match="file: network: unknown name 'channels'; there are genes_per_token, "):
        RunConfig.from_dict(values, source="file")
    for version in (4, 0, "2", None, True):
        with pytest.raises(BadConfig, match=r"file: format .* is not known here \(1 to 3 are\); update scrdit_jax"):
            RunConfig.from_dict({"format": version}, source="file")


def test_another_architecture_keeps_what_both_networks_have():
    config = RunConfig().with_settings({"heads": 4, "width": 64, "first_timestep": 0, "steps": 3})
    unet = config.with_settings({"architecture": "unet", "channels": 16})
    assert unet.network == UNetConfig(channels=16, heads=4, first_timestep=0)
    assert unet.training.steps == 3
    assert unet.differences(config) == ["network.architecture: 'unet' here, 'dit' there"]
    with pytest.raises(BadConfig, match=r"no setting is called 'width'; there are .*channels"):
        unet.with_settings({"width": 32})
    with pytest.raises(BadConfig, match="architecture is 'gan'; it must be one of dit, unet"):
        config.with_settings({"architecture": "gan"})
    with pytest.raises(BadConfig, match="architecture is 'gan'"):
        config.replace({"network": {"architecture": "gan"}})
    # The architecture is no setting of a network's config: its class has it.
    with pytest.raises(TypeError, match="architecture"):
        DiTConfig(architecture="unet")


def test_a_solver_that_is_not_there_is_no_setting():
    with pytest.raises(BadConfig, match="no solver 'euler'; there are ddim, ddpm, distributional"):
        SamplingConfig(solver="euler")


def test_settings_can_be_imported_and_presets_listed_without_jax():
    code = "import sys; from scrdit_jax.config import preset_names; preset_names(); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
