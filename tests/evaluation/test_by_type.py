"""Scores of single types on cells whose types are far apart: right names are recognised, wrong ones are not."""

import anndata
import numpy as np
import pandas as pd

from scrdit_jax.evaluation.by_type import HEADER, score_types, type_rows

CENTRES = np.array([[5, 0, 0, 1, 1], [0, 5, 0, 1, 1], [0, 0, 5, 1, 1]], np.float32)


def cells_of(types, seed, labels=None):
    x = CENTRES[types] + np.random.default_rng(seed).normal(0, 0.3, (len(types), 5)).astype(np.float32)
    names = np.array(["A", "B", "C"])[types if labels is None else labels]
    return anndata.AnnData(x, obs=pd.DataFrame({"kind": pd.Categorical(names)}, index=[f"c{i}" for i in range(len(x))]))


def test_cells_of_their_type_are_classified_as_it_and_others_are_not():
    real = cells_of(np.repeat([0, 1], 60), 0)
    made_types, labels = np.repeat([0, 1, 0], [40, 20, 20]), np.repeat([0, 1], [40, 40])
    a, b = score_types(real, cells_of(made_types, 1, labels), "kind", requested={"A": 40, "B": 41})
    assert (a.name, a.requested, a.generated, a.held_out) == ("A", 40, 40, 60)
    assert (b.requested, b.generated) == (
        41,
        40,
    )
    assert a.classified == 1
    assert a.classified_real == 1
    assert b.classified == 0.5
    assert a.mmd < 2 * a.floor
    assert b.mmd > 3 * b.floor


def test_types_on_one_side_only_are_listed():
    real, made = cells_of(np.repeat([0, 1], 25), 0), cells_of(np.repeat([0, 2], 15), 1)
    a, b, c = score_types(real, made[:, ::-1].copy(), "kind")
    assert a.classified == 1
    assert a.requested is None
    assert (b.generated, b.classified, b.mmd) == (0, None, None)
    assert (c.held_out, c.classified_real, c.classified) == (0, None, 0.0)
    rows = type_rows((a, b, c))
    assert all(len(row) == len(HEADER) for row in rows)
    assert rows[1][3] == ""
