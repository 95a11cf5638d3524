"""What an earlier version saved still opens, or is refused by a sentence.

`oracles/format_1.json` holds what version 0.1.0 wrote for a conditional model and its cells (genes cut to twelve).
"""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import Checkpoints, load_model
from scrdit_jax.conditioning.prior import draw_states
from scrdit_jax.conditioning.variables import Variable
from scrdit_jax.config import RunConfig
from scrdit_jax.data.metadata import DatasetMetadata, has_derived_categories
from scrdit_jax.data.saved_conditions import conditions_of_format_2
from scrdit_jax.errors import BadConfig, BadInput, OutputExists, RunMismatch
from scrdit_jax.families import FamilyFolder
from scrdit_jax.networks.unet import UNetConfig
from scrdit_jax.provenance import Provenance

OLD = json.loads((Path(__file__).parent / "oracles" / "format_1.json").read_text())


def test_settings_of_format_1():
    config = RunConfig.from_dict(OLD["config"])
    assert config.data.derive == ()  # categories that were derived from cells are none any more
    assert config.data.condition_on == ("cell_type",)
    assert config.network.architecture == "dit"
    again = json.loads(json.dumps(config.to_dict()))
    assert again["format"] == 3
    assert RunConfig.from_dict(again) == config
    unet = RunConfig.from_dict(OLD["unet_config"]).network
    assert isinstance(unet, UNetConfig)
    assert unet.channels == 64
    # A preset of one's own may still be written so; today's form means the same.
    by_hand = RunConfig.from_dict(OLD["preset"])
    assert by_hand == RunConfig.from_dict(by_hand.to_dict())
    with pytest.raises(BadConfig, match=r"format 4 is not known here \(1 to 3 are\); update scrdit_jax"):
        RunConfig.from_dict({**again, "format": 4})


def test_metadata_of_format_1():
    metadata = DatasetMetadata.from_dict(OLD["model"]["facts"])
    assert has_derived_categories(OLD["model"]["facts"])
    (observed,) = metadata.variables
    assert observed.name == "cell_type"
    assert sum(observed.counts) == metadata.n_train == 2102
    assert metadata.state == ()
    assert metadata.type_variable == "cell_type"
    again = json.loads(json.dumps(metadata.to_dict()))
    assert again["format"] == 5
    assert not has_derived_categories(again)
    assert DatasetMetadata.from_dict(again) == metadata
    with pytest.raises(BadInput, match="metadata of format 9, not 1 to 5"):
        DatasetMetadata.from_dict({**again, "format": 9})


def test_provenance_of_format_1_is_read_and_not_gone_on_with(tmp_path):
    provenance = Provenance.from_uns({"scrdit": OLD["uns"]})
    assert (provenance.cells, provenance.network_evaluations, provenance.version) == (300, 8, "0.1.0")
    assert provenance.timesteps == (770, 603, 392, 173)
    assert provenance.requested("cell_type") == {"B cells": 300}
    assert provenance.requested("donor") is None
    assert provenance.sampling["guidance"] == 2.0
    assert provenance.metadata == DatasetMetadata.from_dict(OLD["model"]["facts"])
    with pytest.raises(OutputExists, match=r"cells.h5ad was written by scrdit_jax 0.1.0, an earlier version; choose"):
        provenance.require_same(provenance, tmp_path / "cells.h5ad", "choose another --out")


def test_records_that_nobody_can_read_are_none():
    for uns in ({}, {"scrdit": "text"}, {"scrdit": {}}, {"scrdit": {"provenance": "{"}}, {"scrdit": {"config": "[]"}}):
        assert Provenance.from_uns(uns) is None


def test_provenance_goes_round(tiny_run):
    cells = scrdit.sample(tiny_run, 3, steps=2, batch_size=4)
    provenance = Provenance.from_uns(cells.uns)
    assert Provenance.from_dict(json.loads(json.dumps(provenance.to_dict()))) == provenance
    assert Provenance.from_uns({"scrdit": provenance.to_uns()}) == provenance


def test_a_setting_that_is_not_known_here_is_a_difference(tiny_run, tmp_path):
    provenance = Provenance.from_uns(scrdit.sample(tiny_run, 3, steps=2, batch_size=4).uns)
    values = json.loads(json.dumps(provenance.to_dict()))
    for there, here in (({"a": 1}, {"a": 1, "b": 2}), ({"a": 1, "b": 2}, {"a": 1})):
        theirs, ours = (_WithSampling(values | {"sampling": part}) for part in (there, here))
        with pytest.raises(OutputExists, match=r"another request \(b "):
            Provenance.require_same(theirs, ours, tmp_path, "give another --out")


class _WithSampling:
    format, version = Provenance.format, "x"

    def __init__(self, values):
        self.values = values

    def to_dict(self):
        return self.values


def test_a_family_of_format_1(tmp_path):
    (tmp_path / "family.json").write_text(json.dumps(OLD["family"]))
    family = FamilyFolder.read(tmp_path)
    assert family.column == "cell_type"
    assert family.members["B cells"] == "B_cells"
    family.write(tmp_path)
    assert FamilyFolder.read(tmp_path) == family
    (tmp_path / "family.json").write_text(json.dumps({**OLD["family"], "format": 3}))
    with pytest.raises(RunMismatch, match="format 3, not 1 to 2"):
        FamilyFolder.read(tmp_path)
    for folder in ("ä" * 200, "a/b", "..", "", "a\0b"):
        (tmp_path / "family.json").write_text(json.dumps({**OLD["family"], "members": {"B cells": folder}}))
        with pytest.raises(RunMismatch, match=r"family\.json is unreadable"):
            FamilyFolder.read(tmp_path)


def test_a_checkpoint_of_format_1_gives_the_same_model(tiny_run, tmp_path):
    """The record of a checkpoint as version 0.1.0 wrote it, around today's arrays."""
    import shutil

    shutil.copytree(tiny_run.path, tmp_path / "run")
    model, path = load_model(tiny_run), next((tmp_path / "run" / "checkpoints" / "12" / "model").glob("metadata"))
    record = json.loads(path.read_text())
    metadata = {k: value for k, value in record["metadata"].items() if k not in ("format", "variables", "state")}
    settings = {key: value for key, value in metadata["settings"].items() if key != "derive"}
    config = {key: value for key, value in record["config"].items() if key != "format"}
    config["data"] = {**settings, "groups": 0, "components": 0}
    config["network"] = {**config["network"], "channels": 64}
    metadata |= {"settings": config["data"], "conditions": [], "groups": []}
    path.write_text(json.dumps({"config": config, "facts": metadata, "step": 12, "fitted": record["fitted"]}))
    old = load_model(tmp_path / "run")
    assert (old.config, old.metadata, old.step) == (model.config, replace(model.metadata, state=()), model.step)
    path.write_text(json.dumps({**record, "format": 7}))
    with (
        pytest.raises(RunMismatch, match="have format 7, not 1 to 3"),
        Checkpoints(tiny_run.__class__(tmp_path / "run")) as c,
    ):
        c.load()


def test_labels_and_library_sizes_that_format_2_kept_of_each_cell_are_read_as_distributions(tiny_run):
    metadata = replace(load_model(tiny_run).metadata, variables=(Variable("cell_type", ("T", "B"), (60, 40)),))
    random = np.random.default_rng(0)
    labels = np.repeat([[0], [1]], [60, 40], axis=0).astype(np.int32)
    sizes = np.exp(random.normal(7 + labels[:, 0], 0.3)).astype(np.float32)
    table = conditions_of_format_2({"labels": labels, "library_size": sizes}, metadata)
    assert table.cells.tolist() == [60, 40]
    (column,) = table.space.columns
    keys = jax.random.split(jax.random.key(0), 2000)
    for code in (0, 1):
        prior, rows = table.prior_for(np.array([[code]]))
        assert rows.tolist() == [0]
        drawn = np.asarray(draw_states(prior, jnp.zeros(2000, jnp.int32), keys))[:, 0] * column.scale + column.center
        known = np.log(sizes[labels[:, 0] == code])
        assert abs(drawn.mean() - known.mean()) < 0.1
