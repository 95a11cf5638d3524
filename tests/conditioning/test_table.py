"""Combinations of many columns: which are seen, which are nearest, and how many rows a prior has for them."""

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest

from scrdit_jax.conditioning import table as module
from scrdit_jax.conditioning.prior import LEAST_CELLS, draw_states
from scrdit_jax.conditioning.request import CellRequest, Quotas, resolve
from scrdit_jax.conditioning.state import StateSpace
from scrdit_jax.conditioning.table import ConditionTable, grouped
from scrdit_jax.conditioning.unseen import notes_on_rare, notes_on_unseen
from scrdit_jax.conditioning.variables import Variable
from scrdit_jax.data.saved_conditions import arrays_of, conditions_of

NAMES = {"cell_type": ("T", "B", "NK"), "tissue": ("lung", "blood", "skin"), "donor": ("d1", "d2", "d3")}
# T is everywhere but in skin of d1; B in blood alone; NK in lung of d1 alone.
SEEN = {(0, 0, 0): 5, (0, 0, 1): 4, (0, 1, 0): 3, (0, 1, 2): 2, (0, 2, 1): 9, (1, 1, 0): 7, (1, 1, 2): 6, (2, 0, 0): 1}


def variables():
    counts = [np.zeros(3, int) for _ in NAMES]
    for codes, cells in SEEN.items():
        for of_column, code in zip(counts, codes, strict=True):
            of_column[code] += cells
    return tuple(Variable(n, c, tuple(map(int, k))) for (n, c), k in zip(NAMES.items(), counts, strict=True))


def fitted(states=False, seed=0, **options):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.array(list(SEEN)), list(SEEN.values()), axis=0).astype(np.int32)
    codes = codes[rng.permutation(len(codes))]
    # A state is the cell type, but for a little noise.
    values = 4.0 * codes[:, :1] + 0.1 * rng.normal(size=(len(codes), 2)) if states else np.zeros((len(codes), 0))
    space = StateSpace((), np.zeros((1, 3, 0), np.float32))
    options = {"type_variable": "cell_type", "conditions": "prior"} | options
    return ConditionTable.fit(variables(), codes, values.astype(np.float32), space=space, seed=0, **options)


def test_combinations_are_sorted_and_counted_as_numpy_does():
    codes = np.random.default_rng(0).integers(0, 4, size=(500, 3)).astype(np.int32)
    order, starts = grouped(codes)
    found, counts = np.unique(codes, axis=0, return_counts=True)
    np.testing.assert_array_equal(codes[order[starts]], found)
    np.testing.assert_array_equal(np.diff(np.append(starts, 500)), counts)
    table = fitted()
    assert {tuple(map(int, c)): int(n) for c, n in zip(table.codes, table.cells, strict=True)} == SEEN
    assert list(map(tuple, table.codes)) == sorted(SEEN)


@pytest.mark.parametrize("columns", list(product([False, True], repeat=3)))
def test_what_is_seen_of_any_subset_of_columns(columns):
    table = fitted()
    for codes in product(*(range(3) if there else [-1] for there in columns)):
        wanted = [
            k for k, known in enumerate(sorted(SEEN)) if all(c in (-1, n) for c, n in zip(codes, known, strict=True))
        ]
        found = table.seen(codes)
        assert (found.tolist() if found is not None else []) == wanted


def test_the_nearest_agree_in_most_of_the_columns_that_are_named_and_have_most_cells():
    table = fitted()
    # B in lung of d1: T of lung, d1 and B of blood, d1 and NK of lung, d1 agree in two columns.
    assert table.nearest((1, 0, 0)) == [((1, 1, 0), 7), ((0, 0, 0), 5), ((2, 0, 0), 1)]
    # Without the donor, cells of all donors count.
    assert table.nearest((1, 0, -1)) == [((1, 1, -1), 13), ((0, 0, -1), 9), ((2, 0, -1), 1)]
    assert table.nearest((1, 2, 2), most=1) == [((1, 1, 2), 6)]


def test_unseen_combinations_are_named_with_the_nearest_and_counted_when_many():
    table = fitted()
    (note,) = notes_on_unseen(Quotas(((1, 0, 0), (0, 0, 0)), (2, 3)), table)
    assert note == (
        "no training cell has cell_type B, tissue lung, donor d1; the nearest that some have: "
        "cell_type B, tissue blood, donor d1 (7 cells); cell_type T, tissue lung, donor d1 (5 cells); "
        "cell_type NK, tissue lung, donor d1 (1 cell)"
    )
    (note,) = notes_on_unseen(
        resolve(CellRequest(cells=4, conditions={"cell_type": "B", "tissue": "lung"}), table), table
    )
    assert note.startswith("no training cell has cell_type B, tissue lung; ")
    assert note.endswith("; left out: donor")
    every = Quotas(tuple(product(range(3), repeat=3)), (1,) * 27)
    notes = notes_on_unseen(every, table)
    assert len(notes) == 4
    assert notes[-1] == "no training cell has 16 more of the combinations asked for, either"
    assert not notes_on_unseen(resolve(CellRequest(cells=40), table), table)
    assert not notes_on_unseen(Quotas.unlabelled(3), None)


def test_of_few_training_cells_states_are_not_their_own_and_that_is_said():
    table = fitted(states=True)
    counts = {name: sum(n for codes, n in SEEN.items() if codes[0] == i) for i, name in enumerate(("T", "B", "NK"))}
    assert counts["NK"] < LEAST_CELLS <= counts["B"]
    (note,) = notes_on_rare(CellRequest(cells=9, cell_types=("NK", "B")), table)
    assert note == (
        "1 training cell has cell_type NK, fewer than the 12 that states are learnt from: some new cells will be like "
        "others; compare them with real ones"
    )
    (note,) = notes_on_rare(CellRequest(cells=9, conditions={"cell_type": "B", "donor": "d1"}), table)
    assert note.startswith("7 training cells have cell_type B, donor d1, fewer than the 12")
    # What nobody has is for the other sentences; what was not named, and states that were not learnt, for none.
    assert not notes_on_rare(CellRequest(cells=9, conditions={"cell_type": "B", "tissue": "lung"}), table)
    assert not notes_on_rare(CellRequest(cells=9), table)
    assert not notes_on_rare(CellRequest(cells=9, cell_types=("NK",)), fitted(states=True, conditions="bootstrap"))


def test_states_of_an_unseen_combination_are_those_of_its_type_that_agree_in_most_columns():
    table = fitted(states=True)
    known = [tuple(map(int, codes)) for codes in table.codes]
    # B in skin of d1 is as B of d1, though T of d1 in skin is no nearer; NK of blood as the only NK.
    assert [known[k] for k in table.alike((1, 2, 0))] == [(1, 1, 0)]
    assert [known[k] for k in table.alike((2, 1, 2))] == [(2, 0, 0)]
    assert [known[k] for k in table.alike((1, 0, -1))] == [(1, 1, 0), (1, 1, 2)]
    # Without a cell type, all that agree in most; without anything, all.
    assert [known[k] for k in table.alike((-1, 2, 0))] == sorted(k for k in SEEN if (k[1] == 2) != (k[2] == 0))
    assert table.alike((-1, -1, -1)).tolist() == table.alike(()).tolist() == list(range(len(SEEN)))
    prior, rows = table.prior_for(np.array([[1, 2, 0], [1, 1, 0], [0, 0, 0], [1, 0, -1], [1, 0, -1]]))
    assert rows.tolist() == [0, 0, 1, 2, 2]
    assert len(prior.log_weights) == 4  # a power of two
    of_both = np.logaddexp(*(np.log([7 / 13, 6 / 13])[:, None] + table.prior.log_weights[[5, 6]]))
    np.testing.assert_allclose(prior.log_weights[2], of_both, atol=1e-5)


def test_rare_combinations_of_a_type_share_a_row_of_the_prior(monkeypatch):
    plain = fitted(states=True)
    assert plain.prior_rows is None
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    monkeypatch.setattr(module, "CELLS_OF_A_ROW", 7)
    table = fitted(states=True)
    # (0,2,1) has 9 cells and (1,1,0) 7; the third of most cells, (1,1,2), has 6 and shares.
    known = sorted(SEEN)
    rows = dict(zip(known, table.prior_rows.tolist(), strict=True))
    assert (rows[0, 2, 1], rows[1, 1, 0]) == (0, 1)
    assert {rows[k] for k in known if k[0] == 0 and k != (0, 2, 1)} == {2}
    assert (rows[1, 1, 2], rows[2, 0, 0]) == (3, 4)
    # The 14 cells of the row that is shared are rare together, as none of them was alone: one component more.
    assert table.prior.log_weights.shape == (5, plain.prior.log_weights.shape[1] + 1)
    # What is saved opens as what it was; a table without shared rows is saved as it always was.
    metadata = SimpleNamespace(variables=table.variables, genes=("a", "b"), state=(), type_variable="cell_type")
    again = conditions_of(arrays_of(table), metadata)
    np.testing.assert_array_equal(again.prior_rows, table.prior_rows)
    assert "combination_prior_rows" not in arrays_of(plain)
    # A request's rows follow.
    prior, found = again.prior_for(np.array([[0, 0, 0], [0, 1, 2], [1, 1, 0]]))
    assert found.tolist() == [0, 0, 1]
    np.testing.assert_array_equal(prior.log_weights, table.prior.log_weights[[2, 1]])


def test_a_bootstrap_draws_from_the_cells_that_are_alike():
    import jax

    table = fitted(states=True, conditions="bootstrap")
    prior, rows = table.prior_for(np.array([[2, 1, 2], [1, 2, 0], [2, 0, 0]]))
    assert rows.tolist() == [0, 1, 0]
    keys = jax.random.split(jax.random.key(0), 60)
    drawn = np.asarray(draw_states(prior, rows[np.arange(60) % 3], keys))[:, 0]
    np.testing.assert_allclose(drawn, np.tile([8.0, 4.0, 8.0], 20), atol=0.5)
