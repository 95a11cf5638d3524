"""Quotas add up, whatever was asked for; tables with anything wrong in them are refused by the line."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from scrdit_jax.conditioning.assignment import Assignment
from scrdit_jax.conditioning.request import CellRequest, Quotas, resolve, share_out
from scrdit_jax.conditioning.state import StateSpace
from scrdit_jax.conditioning.table import ConditionTable
from scrdit_jax.conditioning.variables import Variable
from scrdit_jax.errors import BadConfig, BadInput, ScrditError, UnknownCellType

TYPES = Variable("cell_type", ("T", "B", "NK"), (6, 3, 1))
DONORS = Variable("donor", ("d1", "d2"), (7, 3))
# T: 4 of d1, 2 of d2; B: 3 of d1; NK: 1 of d2
LABELS = np.array([[0, 0]] * 4 + [[0, 1]] * 2 + [[1, 0]] * 3 + [[2, 1]], np.int32)


def table(*variables):
    space = StateSpace((), np.zeros((1, 3, 0), np.float32))
    return ConditionTable.fit(
        variables,
        LABELS[:, : len(variables)],
        np.zeros((10, 0), np.float32),
        type_variable=next((v.name for v in variables), None),
        space=space,
        conditions="prior",
        seed=0,
    )


def counts(wanted, *variables):
    quotas, found = resolve(wanted, table(*variables)), Counter()
    for entry in quotas.named(variables):
        found[tuple(entry["labels"])] += entry["cells"]
    assert sum(found.values()) == quotas.cells
    assert Quotas.from_named(quotas.named(variables), variables) == quotas
    return dict(found)


@pytest.mark.parametrize("total", [0, 1, 7, 100, 12_345])
def test_shares_add_up_and_are_the_nearest_whole_numbers(total):
    weights = np.array([3.0, 1.0, 1.0, 2.5, 0.0])
    shares = share_out(total, weights)
    assert shares.sum() == total
    assert np.all(np.abs(shares - total * weights / weights.sum()) < 1)


def test_equal_remainders_go_to_the_first():
    assert share_out(10, [1, 1, 1]).tolist() == [4, 3, 3]
    assert share_out(5, [1, 1]).tolist() == [3, 2]


def test_every_way_of_asking():
    assert counts(CellRequest(cells=20), TYPES) == {("T",): 12, ("B",): 6, ("NK",): 2}
    assert counts(CellRequest(cells=7, cell_types=("NK", "B")), TYPES) == {("NK",): 4, ("B",): 3}
    assert counts(CellRequest(cells=7, cell_types="NK"), TYPES) == {("NK",): 7}
    assert counts(CellRequest(per_type={"B": 5, "T": 0, "NK": 1}), TYPES) == {("B",): 5, ("NK",): 1}
    assert resolve(CellRequest(cells=3), table()) == resolve(CellRequest(cells=3), None) == Quotas.unlabelled(3)


def test_columns_that_are_not_mentioned_are_as_in_the_training_cells():
    assert counts(CellRequest(cells=6, cell_types=("T",)), TYPES, DONORS) == {("T", "d1"): 4, ("T", "d2"): 2}
    assert counts(CellRequest(cells=10), TYPES, DONORS) == {
        ("T", "d1"): 4,
        ("T", "d2"): 2,
        ("B", "d1"): 3,
        ("NK", "d2"): 1,
    }
    of_donor = pd.DataFrame({"donor": ["d2"], "cells": [6]})
    assert counts(CellRequest(per_type=of_donor), TYPES, DONORS) == {("T", "d2"): 4, ("NK", "d2"): 2}
    both = pd.DataFrame({"donor": ["d2", "d1"], "cell_type": ["B", "B"], "cells": [6, 1]})
    assert counts(CellRequest(per_type=both), TYPES, DONORS) == {("B", "d2"): 6, ("B", "d1"): 1}


def test_real_cells_are_matched_exactly_or_in_proportion(tiny_cells):
    types = Variable("cell_type", ("T cell", "B cell"), (5, 5))
    real = tiny_cells.obs["cell_type"].value_counts()
    expected = {("T cell",): real["T cell"], ("B cell",): real["B cell"]}
    assert counts(CellRequest(match=tiny_cells), types) == expected
    ninth = counts(CellRequest(match=tiny_cells, cells=9), types)
    assert sum(ninth.values()) == 9
    assert abs(ninth[("T cell",)] - real["T cell"] / 10) < 1
    with pytest.raises(UnknownCellType, match="AnnData in memory: the model knows no"):
        counts(CellRequest(match=tiny_cells), Variable("cell_type", ("T cell", "NK"), (5, 5)))
    with pytest.raises(BadInput, match="none of the model's columns donor in its obs"):
        counts(CellRequest(match=tiny_cells), DONORS)
    missing = tiny_cells.copy()
    missing.obs.iloc[0, 0] = None
    with pytest.raises(BadInput, match=r"obs\['cell_type'\] lacks the label of 1 of 90 cells"):
        counts(CellRequest(match=missing), types)


def test_a_file_may_come_from_a_spreadsheet(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbfcell_type,cells\r\nT, 4\r\n\r\n"B",2.0\r\n')
    assert counts(CellRequest(per_type=tmp_path / "a.csv"), TYPES) == {("T",): 4, ("B",): 2}
    (tmp_path / "a.tsv").write_text("cells\tcell_type\n3\tNK\n")
    assert counts(CellRequest(per_type=tmp_path / "a.tsv", cells=3), TYPES) == {("NK",): 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cell_type,cells\nT,4\nMast,2\n", r"q.csv, line 3: the model knows no 'Mast' in 'cell_type'; there are"),
        ("cell_type,cells\nT,-4\n", r"q.csv, line 2: the cells of 'T' are '-4'; it must be a whole number"),
        ("cell_type,cells\nT,1.5\n", "are '1.5'; it must be a whole number"),
        ("cell_type,cells\nT,many\n", "are 'many'; it must be a whole number"),
        ("cell_type,cells\nT,nan\n", "are 'nan'; it must be a whole number"),
        ("cell_type,cells\nT,1\nT,2\n", r"line 3: 'T' is there twice"),
        ("cell_type,cells\nT,0\n", "asks for no cells at all"),
        ("cell_type,cells\n", "has a header and no rows"),
        ("", "has the columns of an empty file; the columns are 'cells' and one or more of cell_type"),
        ("cell_type\nT\n", "has the columns cell_type; the columns are 'cells' and one or more"),
        ("type,cells\nT,1\n", "has a column 'type'; the columns are 'cells' and one or more of cell_type"),
        ("cell_type,cells\nT,1,2\n", "line 2: 3 values under 2 columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_named(text, message, tmp_path):
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(ScrditError, match=message):
        counts(CellRequest(per_type=tmp_path / "q.csv"), TYPES)


def test_requests_that_contradict_themselves_are_refused(tmp_path):
    with pytest.raises(BadConfig, match="--cell-type and --match both say"):
        CellRequest(cells=3, cell_types=("T",), match="real.h5ad")
    with pytest.raises(BadConfig, match="add --cells"):
        CellRequest(cell_types=("T",))
    with pytest.raises(BadConfig, match="names a type twice"):
        CellRequest(cells=3, cell_types=("T", "T"))
    with pytest.raises(BadConfig, match="cells is 0; it must be a whole number, 1 or more"):
        CellRequest(cells=0)
    with pytest.raises(BadConfig, match="--cells asks for 5 cells, per_type for 4; leave --cells out"):
        counts(CellRequest(cells=5, per_type={"T": 4}), TYPES)
    with pytest.raises(BadConfig, match="trained without labels, so no type can be asked for"):
        resolve(CellRequest(cells=5, cell_types=("T",)), table())
    with pytest.raises(BadInput, match="is not there; give a"):
        counts(CellRequest(per_type=tmp_path / "nothing.csv"), TYPES)


def test_conditions_by_the_index_of_the_cell():
    assignment = Assignment.of(Quotas(((0,), (2,), (0,)), (3, 2, 1)))
    assert assignment.codes.tolist() == [[0], [2]]
    assert assignment.rows(0, 8).tolist() == [0, 0, 0, 1, 1, 0, 0, 0]
    assert assignment.rows(4, 2).tolist() == [1, 0]
    unlabelled = Assignment.of(Quotas.unlabelled(3))
    assert unlabelled.rows(5, 3).tolist() == [0, 0, 0]
    assert unlabelled.codes.shape == (1, 0)


def test_any_subset_of_columns_can_be_asked_for():
    wanted = {"cell_types": (), "cells": 6}
    assert counts(CellRequest(conditions={"cell_type": "T"}, **wanted), TYPES, DONORS) == {
        ("T", "d1"): 4,
        ("T", "d2"): 2,
    }
    assert counts(CellRequest(conditions={"donor": "d1"}, cells=7), TYPES, DONORS) == {("T", "d1"): 4, ("B", "d1"): 3}
    both = CellRequest(cells=4, cell_types=("T", "NK"), conditions={"donor": "d2"})
    assert counts(both, TYPES, DONORS) == {("T", "d2"): 2, ("NK", "d2"): 2}
    # Unseen, and whole: no column is left out.
    whole = CellRequest(cells=5, conditions={"donor": "d1", "cell_type": "NK"})
    assert counts(whole, TYPES, DONORS) == {("NK", "d1"): 5}
    rows = pd.DataFrame({"donor": ["d2", None, "d1"], "cell_type": ["B", "NK", float("nan")], "cells": [2, 3, 7]})
    assert counts(CellRequest(per_type=rows), TYPES, DONORS) == {
        ("B", "d2"): 2, ("NK", "d2"): 3, ("T", "d1"): 4, ("B", "d1"): 3,
    }  # fmt: skip


def test_columns_are_left_out_where_no_training_cell_has_the_others():
    assays = Variable("assay", ("v2", "v3"), (5, 5))
    labels = np.hstack([LABELS, np.arange(10)[:, None] % 2])
    three = ConditionTable.fit(
        (TYPES, DONORS, assays), labels.astype(np.int32), np.zeros((10, 0), np.float32), type_variable="cell_type",
        space=StateSpace((), np.zeros((1, 3, 0), np.float32)), conditions="prior", seed=0,
    )  # fmt: skip
    quotas = resolve(CellRequest(cells=5, conditions={"donor": "d1", "cell_type": "NK"}), three)
    assert quotas == Quotas(((2, 0, -1),), (5,))
    named = quotas.named(three.variables)
    assert named == [{"labels": ["NK", "d1", None], "cells": 5}]
    assert Quotas.from_named(named, three.variables) == quotas


def test_categories_and_columns_that_are_not_there():
    def ask(**options):
        counts(CellRequest(cells=5, **options), TYPES, DONORS)

    with pytest.raises(BadInput, match=r"the model is not conditioned on 'doner'; did you mean donor\?"):
        ask(conditions={"doner": "d1"})
    with pytest.raises(BadInput, match="not conditioned on 'assay'; its columns are cell_type, donor"):
        ask(conditions={"assay": "v2"})
    with pytest.raises(UnknownCellType, match="knows no 'd3' in 'donor'; there are d1, d2"):
        ask(conditions={"donor": "d3"})
    with pytest.raises(BadConfig, match=r"--cell-type and --condition cell_type=... both name a type"):
        ask(conditions={"cell_type": "T"}, cell_types=("B",))
    with pytest.raises(BadConfig, match="--condition and --per-type both say which cells"):
        CellRequest(conditions={"donor": "d1"}, per_type={"T": 3})
    with pytest.raises(BadConfig, match="trained without labels"):
        resolve(CellRequest(cells=5, conditions={"donor": "d1"}), table())
    with pytest.raises(BadInput, match="row 1: no label is given; name one"):
        counts(CellRequest(per_type=pd.DataFrame({"donor": [None], "cells": [3]})), TYPES, DONORS)


def test_fewer_cells_than_combinations_keep_the_proportions_of_types():
    """Type A has few combinations of many cells, type B, half of all, many of one cell."""
    types, donors = (
        Variable("cell_type", ("A", "B"), (400, 400)),
        Variable("donor", tuple(map(str, range(400))), (2,) * 400),
    )
    labels = np.array([[0, i % 4] for i in range(400)] + [[1, i] for i in range(400)], np.int32)
    many = ConditionTable.fit(
        (donors, types), labels[:, ::-1], np.zeros((800, 0), np.float32), type_variable="cell_type",
        space=StateSpace((), np.zeros((1, 3, 0), np.float32)), conditions="prior", seed=0,
    )  # fmt: skip
    quotas = resolve(CellRequest(cells=101), many)
    assert quotas.cells == 101
    of_type = np.bincount([codes[1] for codes in quotas.codes], quotas.counts)
    assert np.abs(of_type - 50.5).max() <= 1
    assert (np.array(quotas.counts) > 0).all()
