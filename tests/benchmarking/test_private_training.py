"""The curve of realism against epsilon: what is compared, and how it is shown."""

import numpy as np

from benchmarks import private_training
from benchmarks.private_training import CLIPPED, ORDINARY
from scrdit_jax.config import NO_NOISE, load_preset


def row(name, number, noise):
    privacy = {} if noise is None else {"epsilon": number, "noise_multiplier": noise}
    scores = {"random_forest_auc": 0.7512, "mmd_pca": 0.03456, "gene_mean_correlation": 0.98}
    membership = {attack: {"mean": 0.5, "sd": 0.01} for attack in ("plain", "calibrated")}
    return {"recipe": name, "privacy": privacy, "scores": scores, "membership": membership}


def test_the_recipes_differ_in_their_privacy_alone():
    found = private_training.recipes("private", (50.0, 2.0))
    assert list(found) == ["epsilon 2", "epsilon 50", CLIPPED, ORDINARY]
    assert [config.privacy.dp_epsilon for config in found.values()] == [2.0, 50.0, NO_NOISE, None]
    assert {config.network for config in found.values()} == {load_preset("private").network}
    assert {config.training for config in found.values()} == {load_preset("private").training}


def test_table_and_picture_have_every_row():
    rows = [
        row("epsilon 2", 2.0, 4.0),
        row("epsilon 50", 50.0, 0.5),
        row(CLIPPED, None, 0.0),
        row(ORDINARY, 0, None),
    ]
    text = private_training.table(rows)
    assert "| epsilon 2 | 4.00 | 0.751 | 0.0346 | 0.980 |" in text
    assert np.all([name["recipe"] in text for name in rows])
    assert private_training.picture(rows).startswith(b"\x89PNG")
