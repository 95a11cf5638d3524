"""Counts: unbiased, whole, the same whatever is drawn beside them, of the depth of the training cells."""

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import ks_2samp

from scrdit_jax.checkpoint import load_model
from scrdit_jax.conditioning.assignment import Assignment
from scrdit_jax.conditioning.request import Quotas
from scrdit_jax.config import SamplingConfig
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation.counts import CountSampler, make_count_sampler

POOL = np.array([500.0, 1000.0, 4000.0], np.float32)


def test_a_count_has_the_right_mean_and_is_one_of_its_two_neighbours():
    """Expectation by eq. count = L / S expm1(x); 20,000 cells leave a standard error below 0.004."""
    values = np.array([[0.4, 0.0, 1.7, 3.0]], np.float32)
    cells = sparse.csr_matrix(np.repeat(values, 20_000, axis=0))
    counts, library = CountSampler((POOL,), 10_000.0, 3000.0, 5).draw(cells, 0, np.zeros(20_000, int))
    exact = 0.3 * np.expm1(values[0].astype(np.float64))
    dense = counts.toarray()
    assert counts.dtype == np.int32
    assert np.all(library == 3000)
    assert np.all((dense >= np.floor(exact)) & (dense <= np.ceil(exact)))
    np.testing.assert_allclose(dense.mean(axis=0), exact, atol=0.02)
    assert not np.any(counts.data == 0)


def test_library_sizes_are_those_of_the_cells_own_pool():
    cells = sparse.csr_matrix(np.full((3000, 1), 1.0, np.float32))
    rows = np.arange(3000) % 2
    _, library = CountSampler((POOL, np.array([7.0], np.float32)), 10_000.0, None, 0).draw(cells, 0, rows)
    assert np.all(library[rows == 1] == 7)
    drawn, counts = np.unique(library[rows == 0], return_counts=True)
    assert drawn.tolist() == POOL.tolist()
    assert counts.min() > 400


def test_a_cells_counts_do_not_depend_on_its_neighbours():
    cells = sparse.random(50, 20, 0.4, "csr", np.float32, random_state=1) * 3
    counting, rows = CountSampler((POOL,), 10_000.0, None, 9), np.zeros(50, int)
    whole, sizes = counting.draw(cells, 100, rows)
    part, some = counting.draw(cells[20:31], 120, rows[:11])
    np.testing.assert_array_equal(whole[20:31].toarray(), part.toarray())
    np.testing.assert_array_equal(sizes[20:31], some)
    other, _ = CountSampler((POOL,), 10_000.0, None, 10).draw(cells, 100, rows)
    assert (other != whole).nnz > 0


def test_values_beyond_what_a_cell_can_hold_never_count_more_than_its_library():
    cells = sparse.csr_matrix(np.array([[12.0, 11.0], [0.0, 0.0]], np.float32))
    counts, _ = CountSampler((POOL,), 10_000.0, 1000.0, 0).draw(cells, 0, np.zeros(2, int))
    assert abs(int(counts[0].sum()) - 1000) <= 2
    assert counts[1].nnz == 0


def test_without_a_known_scale_the_depth_is_over_the_genes_there_are():
    cells = sparse.csr_matrix(np.array([[1.0, 2.0, 0.5], [0, 0, 0], [3.0, 0, 0]], np.float32))
    counts, _ = CountSampler((POOL,), None, 900.0, 0).draw(cells, 0, np.zeros(3, int))
    sums = np.asarray(counts.sum(axis=1)).ravel()
    assert abs(int(sums[0]) - 900) <= 3
    assert sums[1] == 0
    assert sums[2] == 900


def test_training_cells_lend_their_depth_by_type(labelled_run, labelled_cells):
    model = load_model(labelled_run)
    named = [{"labels": ["T cell", "d2"], "cells": 1}, {"labels": ["B cell", "d1"], "cells": 1}]
    assignment = Assignment.of(Quotas.from_named(named, model.metadata.observed), model.conditions, seed=0)
    pools = make_count_sampler(model, SamplingConfig(output="counts"), assignment).pools
    sums = labelled_cells.to_df().sum(axis=1)
    for pool, name in zip(pools, ("T cell", "B cell"), strict=True):
        there = sums[(labelled_cells.obs["cell_type"] == name).to_numpy()]
        assert set(pool) <= set(there.astype(np.float32))
        assert len(pool) > 10
        assert ks_2samp(pool, there).pvalue > 0.01


def test_counts_that_cannot_be_known_need_a_depth(tiny_cells, tiny_config, tiny_run):
    model = load_model(tiny_run)
    none = type(model.metadata.normalization)("none", None, False, "log values")
    metadata = type(model.metadata)(**{**vars(model.metadata), "normalization": none})
    logs = type(model)(model.config, metadata, model.params, model.step, model.conditions)
    assignment = Assignment.of(Quotas.unlabelled(1), model.conditions, seed=0)
    with pytest.raises(BadConfig, match=r"held no raw counts, so .* not known; say .* --depth 10000"):
        make_count_sampler(logs, SamplingConfig(output="counts"), assignment)
    assert make_count_sampler(logs, SamplingConfig(output="counts", depth=50.0), assignment).target_sum is None
    assert make_count_sampler(model, SamplingConfig(), assignment) is None
    with pytest.raises(BadConfig, match="a depth is for counts; add --output counts"):
        SamplingConfig(depth=100.0)
