"""A prediction is one file: one that is dropped into the folder is trained with and sampled from."""

import json

import anndata
import numpy as np
import pytest

import scrdit_jax.diffusion.predictions as package
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import PREDICTIONS, make_prediction

TOY = '''
"""The clean cells themselves, and a second number that nothing is made of."""
from dataclasses import dataclass

from scrdit_jax.diffusion.predictions import PointPrediction


@dataclass(frozen=True)
class Clean(PointPrediction):
    outputs = 2

    def initial_bias(self, marginals):
        return 0.25 + 0 * marginals[:, :2]

    def clean(self, noisy, predicted, alpha_bar):
        return predicted[..., 0]

    def error(self, clean, noise, noisy, predicted, alpha_bar):
        return clean - predicted[..., 0]


PREDICTION = Clean
'''


@pytest.mark.parametrize("name", PREDICTIONS)
def test_an_entry_says_what_its_values_are(name):
    kind = PREDICTIONS[name]
    scalings = (Scaling(-10.0, -8.0, 4.0, quantiles=((0.5, 1.0, 2.0),) * 7) for _ in range(2))
    prediction, again = (make_prediction(name, scaling) for scaling in scalings)
    assert isinstance(prediction, kind)
    assert prediction == again
    assert hash(prediction) == hash(again)
    assert kind.needs_quantiles in (False, True)
    sizes = np.zeros(4, np.float32)
    bound = prediction.for_cells(sizes)
    assert (bound is prediction) != kind.needs_library_size
    if not kind.needs_library_size:
        assert prediction.for_cells(None) is prediction
    assert prediction.is_distribution == kind.is_distribution == hasattr(prediction, "log_likelihood")
    bias = prediction.initial_bias(np.zeros((7, 3), np.float32))
    assert bias is None or bias.shape == (7, prediction.outputs)


@pytest.mark.slow
def test_a_file_in_the_folder_is_a_prediction_of_the_command_line(scrdit, tiny_cells, tiny_config, tmp_path, add_part):
    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    tiny_cells.write_h5ad("cells.h5ad")
    words = (
        "train",
        "cells.h5ad",
        "--preset",
        "tiny.json",
        "--steps",
        3,
        "--prediction",
        "clean-cells",
        "--out",
        "run",
    )
    status, printed = scrdit(*words)
    assert status == 2
    assert (
        "no prediction 'clean-cells'; there are epsilon, mixture, negative-binomial, quantised, v, zero-inflated"
        in printed
    )
    add_part(package, "clean_cells", TOY)
    status, printed = scrdit(*words)
    assert status == 0, printed
    assert "[clean-cells|epsilon|mixture|negative-binomial|quantised|v|zero-inflated]" in scrdit("train", "--help")[1]
    status, printed = scrdit("sample", "run", "--cells", 5, "--steps", 2, "--batch-size", 5, "--out", "new.h5ad")
    assert status == 0, printed
    assert anndata.read_h5ad("new.h5ad").shape == (5, 24)
    status, printed = scrdit(*words[:-1], "other", "--loss", "likelihood")
    assert status == 2
    assert (
        "a prediction of clean-cells does not have; use --prediction mixture or negative-binomial or quantised or "
        "zero-inflated" in printed
    )
