"""The typed keywords of the public functions are the settings there are, and show in their signatures."""

import inspect
from dataclasses import fields

import scrdit_jax as scrdit
from scrdit_jax.config import DataConfig, DiffusionConfig, PrivacyConfig, SamplingConfig, TrainingConfig
from scrdit_jax.networks.dit import DiTConfig
from scrdit_jax.networks.unet import UNetConfig
from scrdit_jax.options import SamplingOptions, SettingChanges


def names(*configs):
    return {field.name for config in configs for field in fields(config)}


def test_every_setting_has_a_typed_keyword():
    sections = (DataConfig, DiffusionConfig, TrainingConfig, PrivacyConfig, DiTConfig, UNetConfig)
    known = names(*sections) | {"architecture"}
    assert set(SettingChanges.__annotations__) == known
    assert set(SamplingOptions.__annotations__) == names(SamplingConfig)


def test_signatures_show_them():
    for function, keywords in ((scrdit.train, SettingChanges), (scrdit.prepare, SettingChanges),
                               (scrdit.settings, SettingChanges), (scrdit.sample, SamplingOptions),
                               (scrdit.generate, SamplingOptions)):  # fmt: skip
        parameters = inspect.signature(function).parameters
        assert set(keywords.__annotations__) <= set(parameters)
        assert not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def test_public_functions_document_every_argument():
    for name in set(scrdit.__all__) - {"load_preset", "pl"}:
        function = getattr(scrdit, name)
        text = inspect.getdoc(function)
        own = inspect.signature(function, follow_wrapped=False).parameters
        for parameter in set(own) - set(SettingChanges.__annotations__) - set(SamplingOptions.__annotations__):
            assert parameter in text, f"{name} does not say what {parameter} is"
