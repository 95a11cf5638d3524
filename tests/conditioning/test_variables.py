"""Observed variables: the input's order of categories, and every column that cannot be learnt refused."""

import json

import numpy as np
import pandas as pd
import pytest

from scrdit_jax.api import prepare
from scrdit_jax.conditioning.variables import Variable, encode
from scrdit_jax.data.metadata import DatasetMetadata
from scrdit_jax.errors import BadConfig, BadInput, UnknownCellType


def prepared(cells, config, *columns):
    return prepare(cells, preset=config, condition_on=columns)


def test_conditions_have_the_inputs_order_and_count_training_cells(labelled_cells, tiny_config):
    found = prepared(labelled_cells, tiny_config, "donor", "cell_type")
    donor, cell_type = found.metadata.variables
    assert donor.categories == ("d2", "d1")
    assert cell_type.name == "cell_type"
    train = found.train.obs
    assert donor.counts == tuple(int((train["donor"] == name).sum()) for name in donor.categories)
    assert list(found.cells.obs["donor"].cat.categories) == ["d2", "d1"]
    codes = encode(train, found.metadata.variables)
    assert codes.shape == (len(train), 2)
    assert codes.dtype == np.int32
    assert [donor.categories[code] for code in codes[:, 0]] == list(train["donor"])
    again = DatasetMetadata.from_dict(json.loads(json.dumps(found.metadata.to_dict())))
    assert again == found.metadata
    assert again.categories == (2, 2)
    assert again.type_variable == "cell_type"


def test_numbers_as_labels_become_words(tiny_cells, tiny_config):
    cells = tiny_cells.copy()
    cells.obs["batch"] = np.arange(cells.n_obs) % 3
    assert prepared(cells, tiny_config, "batch").metadata.variables[0].categories == ("0", "1", "2")


def test_columns_that_cannot_be_learnt_are_refused(tiny_cells, tiny_config):
    cells = tiny_cells.copy()
    with pytest.raises(BadInput, match="has no column 'tissue' to condition on; obs has cell_type"):
        prepared(cells, tiny_config, "tissue")
    cells.obs["tissue"] = pd.Categorical([None, None] + ["lung"] * 88)
    with pytest.raises(BadInput, match=r"obs\['tissue'\] lacks the label of 2 of 90 cells"):
        prepared(cells, tiny_config, "tissue")
    cells.obs["tissue"] = ["liver"] + ["lung"] * 89
    with pytest.raises(BadInput, match=r"'liver' in obs\['tissue'\] has 1 cell; a label needs at least 2"):
        prepared(cells, tiny_config, "tissue")
    held_out = prepare(cells, preset=tiny_config).held_out.obs_names[:2]
    cells.obs["tissue"] = np.where(cells.obs_names.isin(held_out), "liver", "lung")
    with pytest.raises(BadInput, match=r"all cells of 'liver' in obs\['tissue'\] fell to the held-out ones"):
        prepared(cells, tiny_config, "tissue")
    with pytest.raises(BadConfig, match="condition_on names a column twice"):
        prepared(cells, tiny_config, "cell_type", "cell_type")


def test_labels_of_too_few_cells_are_counted(tiny_cells, tiny_config):
    cells = tiny_cells.copy()
    cells.obs["donor"] = ["a", "b", "c"] + ["d"] * 87
    with pytest.raises(
        BadInput, match=r"'a' in obs\['donor'\], as each of 2 more of the column's labels, has 1 cell; a"
    ):
        prepared(cells, tiny_config, "donor")
    held_out = prepare(cells, preset=tiny_config).held_out.obs_names[:4]
    cells.obs["donor"] = "d"
    cells.obs.loc[held_out, "donor"] = ["a", "a", "b", "b"]
    with pytest.raises(
        BadInput, match=r"all cells of 'a' in obs\['donor'\], as each of 1 more .* fell to the held-out"
    ):
        prepared(cells, tiny_config, "donor")


def test_codes_are_those_of_the_words_whatever_the_column_is():
    numbers = Variable("batch", ("10", "2", "3"), (1, 1, 1))
    expected = [[1], [0], [-1], [2]]
    for labels in (np.array([2, 10, 7, 3]), ["2", "10", "x", "3"], pd.Categorical(["2", "10", None, "3"])):
        codes = encode(pd.DataFrame({"batch": labels}), (numbers,))
        assert codes.dtype == np.int32
        assert codes.tolist() == expected


def test_an_unknown_name_is_answered_with_names_like_it():
    variable = Variable("cell_type", ("CD4 T cells", "CD14+ Monocytes", "B cells"), (1, 1, 1))
    assert variable.code("B cells") == 2
    with pytest.raises(UnknownCellType, match=r"knows no 'B cell' in 'cell_type'; did you mean B cells\?"):
        variable.code("B cell")
    with pytest.raises(UnknownCellType, match=r"did you mean CD14\+ Monocytes\?"):
        variable.code("monocytes")
    with pytest.raises(UnknownCellType, match=r"there are CD4 T cells, CD14\+ Monocytes, B cells"):
        variable.code("neuron")
