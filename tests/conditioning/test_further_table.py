"""What a model that was trained further knows of the combinations of both its trainings."""

import numpy as np
import pytest

from scrdit_jax.conditioning.state import StateSpace
from scrdit_jax.conditioning.table import ConditionTable
from scrdit_jax.conditioning.variables import Variable
from scrdit_jax.data.saved_conditions import arrays_of, conditions_of

TYPES = Variable("cell_type", ("T", "B"), (0, 0))
DONORS = Variable("donor", ("d1", "d2", "d3"), (0, 0, 0))
SPACE = StateSpace((), np.zeros((1, 3, 0), np.float32))


def fitted(codes, at, conditions="prior"):
    """Of cells whose states lie about `at`."""
    codes = np.array(codes, np.int32)
    states = at + np.random.default_rng(0).normal(size=(len(codes), 2)).astype(np.float32)
    return ConditionTable.fit(
        (TYPES, DONORS), codes, states, type_variable="cell_type", space=SPACE, conditions=conditions, seed=0
    )


# T of d1 and of d2, B of d1; then T of d1 and of d3; then B of d3.
TRAININGS = ([[0, 0]] * 30 + [[0, 1]] * 20 + [[1, 0]] * 10, [[0, 0]] * 15 + [[0, 2]] * 25, [[1, 2]] * 12)


@pytest.fixture(params=["prior", "bootstrap"])
def tables(request):
    first, second, third = (fitted(codes, 100.0 * i, request.param) for i, codes in enumerate(TRAININGS))
    second = second.after(first)
    return first, second, third.after(second)


def drawn_about(prior):
    """About which of 0, 100 and 200 the states of each row lie, and no others."""
    if hasattr(prior, "means"):
        return [{round(float(m), -2) for m in prior.means[np.exp(row) > 0, 0]} for row in prior.log_weights]
    rows = np.split(prior.states, np.cumsum(prior.cells)[:-1])
    return [{round(float(state), -2) for state in states[:, 0]} for states in rows]


def proportions(table, fixed=None):
    """{combination: number of cells} of those that have the `fixed` codes {place: code}."""
    numbers = table.seen([(fixed or {}).get(place, -1) for place in range(2)])
    return {} if numbers is None else {tuple(table.codes[i].tolist()): int(table.weights[i]) for i in numbers}


def states_about(table, codes):
    """Of each row of `codes`, about which of 0, 100 and 200 its states lie."""
    prior, rows = table.prior_for(np.asarray(codes))
    return [drawn_about(prior)[row] for row in rows]


def test_proportions_are_of_the_last_cells_and_former_ones_where_there_are_no_others(tables):
    first, second, third = tables
    assert proportions(second) == {(0, 0): 15, (0, 2): 25}
    assert proportions(second, {0: 1}) == {(1, 0): 10}
    assert proportions(second, {0: 0}) == {(0, 0): 15, (0, 2): 25}
    assert proportions(second, {1: 1}) == {(0, 1): 20}
    assert proportions(second, {0: 1, 1: 1}) == {}
    assert proportions(third) == {(1, 2): 12}
    assert proportions(third, {0: 0}) == {(0, 0): 15, (0, 1): 20, (0, 2): 25}
    assert proportions(first, {0: 0}) == {(0, 0): 30, (0, 1): 20}


def test_states_are_those_of_the_training_that_last_had_the_combination(tables):
    _, second, third = tables
    asked = np.array([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1]])
    assert states_about(second, asked) == [{100}, {0}, {100}, {0}, {0}]
    assert states_about(third, np.vstack([asked, [[1, 2]]])) == [{100}, {0}, {100}, {0}, {200}, {200}]
    assert states_about(third, np.zeros((1, 0), np.int32)) == [{200}]


def test_nothing_is_kept_of_combinations_that_were_seen_again():
    first = fitted(TRAININGS[0], 0.0)
    again = fitted(TRAININGS[0], 100.0)
    assert again.after(first) is again
    assert again.after(None) is again
    some = fitted([[0, 0]] * 30 + [[0, 1]] * 20, 100.0).after(first)
    assert some.former.tolist() == [0, 0, 10]


def test_it_is_saved_and_read_again(tables, monkeypatch):
    class Metadata:
        variables, type_variable, state, genes = (TYPES, DONORS), "cell_type", (), ("a", "b")

    table = tables[2]
    read = conditions_of(arrays_of(table), Metadata)
    for name in ("codes", "cells", "former"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
    for mine, theirs in zip(read.prior, table.prior, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not conditions_of(arrays_of(tables[0]), Metadata).former.any()
