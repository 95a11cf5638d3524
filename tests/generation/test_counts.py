"""Counts: unbiased, whole, the same whatever is drawn beside them, of the depth of the training cells."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import ks_2samp

import scrdit_jax as scrdit
from scrdit_jax.checkpoint import load_model
from scrdit_jax.config import SamplingConfig
from scrdit_jax.errors import BadConfig
from scrdit_jax.generation.counts import CountSampler, make_count_sampler

SIZES = np.array([500.0, 1000.0, 4000.0], np.float32)


def test_a_count_has_the_right_mean_and_is_one_of_its_two_neighbours():
    """Expectation by eq. count = L / S expm1(x); 20,000 cells leave a standard error below 0.004."""
    values = np.array([[0.4, 0.0, 1.7, 3.0]], np.float32)
    cells = sparse.csr_matrix(np.repeat(values, 20_000, axis=0))
    counts, library = CountSampler(10_000.0, 3000.0, 5).draw(cells, 0, np.full(20_000, 700.0))
    exact = 0.3 * np.expm1(values[0].astype(np.float64))
    dense = counts.toarray()
    assert counts.dtype == np.int32
    assert np.all(library == 3000)
    assert np.all((dense >= np.floor(exact)) & (dense <= np.ceil(exact)))
    np.testing.assert_allclose(dense.mean(axis=0), exact, atol=0.02)
    assert not np.any(counts.data == 0)


def test_a_cell_has_its_own_library_size_unless_all_have_one_depth():
    cells = sparse.csr_matrix(np.full((3000, 1), 1.0, np.float32))
    sizes = np.resize(SIZES, 3000)
    counts, library = CountSampler(10_000.0, None, 0).draw(cells, 0, sizes)
    assert library.dtype == np.float32
    np.testing.assert_array_equal(library, sizes)
    for size in SIZES:
        # A count lies within 1 of its mean: the standard error of 1,000 is below 0.016.
        assert abs(counts[sizes == size].mean() - size / 10_000 * np.expm1(1)) < 0.065
    deep, library = CountSampler(10_000.0, 60_000.0, 0).draw(cells, 0, sizes)
    assert np.all(library == 60_000)
    assert abs(deep.mean() - 6 * np.expm1(1)) < 0.04


def test_whole_counts_are_given_back_as_they_were():
    """Neither rounded at random nor taken as shares, also where the values add up to more than a cell can hold."""
    random = np.random.default_rng(3)
    wanted = random.poisson(200.0, (40, 12)) * (random.random((40, 12)) < 0.7)
    sizes = np.exp(random.normal(6, 1, 40)).astype(np.float32)
    cells = sparse.csr_matrix(np.log1p(wanted * (10_000.0 / sizes)[:, None]).astype(np.float32))
    for seed in (0, 1):
        counts, library = CountSampler(10_000.0, None, seed, whole=True).draw(cells, 0, sizes)
        np.testing.assert_array_equal(counts.toarray(), wanted)
        np.testing.assert_array_equal(library, sizes)


def test_a_cells_counts_do_not_depend_on_its_neighbours():
    cells = sparse.random(50, 20, 0.4, "csr", np.float32, random_state=1) * 3
    counting, of_cells = CountSampler(10_000.0, None, 9), np.resize(SIZES, 50)
    whole, sizes = counting.draw(cells, 100, of_cells)
    part, some = counting.draw(cells[20:31], 120, of_cells[20:31])
    np.testing.assert_array_equal(whole[20:31].toarray(), part.toarray())
    np.testing.assert_array_equal(sizes[20:31], some)
    other, _ = CountSampler(10_000.0, None, 10).draw(cells, 100, of_cells)
    assert (other != whole).nnz > 0


def test_values_beyond_what_a_cell_can_hold_never_count_more_than_its_library():
    cells = sparse.csr_matrix(np.array([[12.0, 11.0], [0.0, 0.0]], np.float32))
    counts, _ = CountSampler(10_000.0, 1000.0, 0).draw(cells, 0, SIZES[:2])
    assert abs(int(counts[0].sum()) - 1000) <= 2
    assert counts[1].nnz == 0


def test_without_a_known_scale_the_depth_is_over_the_genes_there_are():
    cells = sparse.csr_matrix(np.array([[1.0, 2.0, 0.5], [0, 0, 0], [3.0, 0, 0]], np.float32))
    counts, _ = CountSampler(None, 900.0, 0).draw(cells, 0, SIZES)
    sums = np.asarray(counts.sum(axis=1)).ravel()
    assert abs(int(sums[0]) - 900) <= 3
    assert sums[1] == 0
    assert sums[2] == 900


@pytest.mark.slow
def test_counts_have_the_depth_of_the_training_cells_of_their_type(tiny_config, tmp_path):
    """T cells have four times the counts of B cells; 0.13 between the distributions of 4,000 drawn and about 180."""
    random = np.random.default_rng(12)
    t_cell = np.arange(600) % 2 == 0
    depths = np.where(t_cell, 4.0, 1.0) * random.gamma(8, 1 / 8, 600)
    counts = random.poisson(random.gamma(0.7, 3.0, 40) * depths[:, None]).astype(np.float32)
    adata = anndata.AnnData(sparse.csr_matrix(counts), obs={"cell_type": np.where(t_cell, "T cell", "B cell")})
    options = {"condition_on": ["cell_type"], "steps": 1, "clip": True}
    run = scrdit.train(adata, out=tmp_path / "run", preset=tiny_config, **options)
    training = scrdit.prepare(adata, preset=tiny_config, condition_on=["cell_type"], clip=True).train.obs
    wanted = {"T cell": 4000, "B cell": 4000}
    made = scrdit.sample(run, per_type=wanted, steps=1, output="counts", batch_size=512).obs
    for name in wanted:
        drawn = made.loc[made["cell_type"] == name, "library_size"]
        assert ks_2samp(drawn, training.loc[training["cell_type"] == name, "library_size"]).statistic < 0.13
        assert len(np.unique(drawn)) > 3900


def test_counts_that_cannot_be_known_need_a_depth(tiny_cells, tiny_config, tiny_run):
    model = load_model(tiny_run)
    none = type(model.metadata.normalization)("none", None, False, "log values")
    metadata = type(model.metadata)(**{**vars(model.metadata), "normalization": none})
    logs = type(model)(model.config, metadata, model.params, model.step, model.conditions)
    with pytest.raises(BadConfig, match=r"held no raw counts, so .* not known; say .* --depth 10000"):
        make_count_sampler(logs, SamplingConfig(output="counts"))
    assert make_count_sampler(logs, SamplingConfig(output="counts", depth=50.0)).target_sum is None
    assert make_count_sampler(model, SamplingConfig()) is None
    with pytest.raises(BadConfig, match="a depth is for counts; add --output counts"):
        SamplingConfig(depth=100.0)
