import math

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import entropy, pearsonr, wasserstein_distance
from sklearn.decomposition import PCA

from scrdit_jax.errors import GeneMismatch
from scrdit_jax.evaluation import metrics


def make_cells(rows, genes, seed, zeros=0.6):
    rng = np.random.default_rng(seed)
    values = rng.gamma(2, 0.7, (rows, genes)) * np.exp(0.3 * rng.normal(size=(rows, 1)))
    return np.where(rng.random((rows, genes)) < zeros, 0, values).astype(np.float32)


def correlated_cells(rows, genes, seed):
    """Two cell types with opposite programmes: which genes go together is the whole signal."""
    rng = np.random.default_rng(seed)
    kind = rng.random(rows) < 0.5
    programme = np.arange(genes) % 2 == 0
    level = np.where(kind[:, None] == programme[None, :], 2.0, 0.5)
    return np.maximum(level + rng.normal(0, 0.8, (rows, genes)), 0).astype(np.float32)


def slow_mmd(x, y):
    """The definition, pair by pair."""
    both = [row.astype(float) for row in (*x, *y)]
    squared = [[float(((a - b) ** 2).sum()) for b in both] for a in both]
    n = len(both)
    bandwidth = sum(map(sum, squared)) / (n * n - n)
    if bandwidth == 0:
        return 0.0

    def kernel(i, j):
        return sum(np.exp(-squared[i][j] / (factor * bandwidth)) for factor in (0.25, 0.5, 1, 2, 4))

    first, second = range(len(x)), range(len(x), n)
    xx = np.mean([kernel(i, j) for i in first for j in first])
    yy = np.mean([kernel(i, j) for i in second for j in second])
    xy = np.mean([kernel(i, j) for i in first for j in second])
    return xx + yy - 2 * xy


SIDES = make_cells(17, 45, 0), make_cells(17, 45, 1, zeros=0.5)


@pytest.mark.parametrize("rows", [(17, 17), (17, 9)])
def test_gaussian_mmd_is_the_definition(rows, monkeypatch):
    x, y = SIDES[0][: rows[0], :20], SIDES[1][: rows[1], :20]
    expected = slow_mmd(x, y)
    assert metrics.gaussian_mmd(x, y) == pytest.approx(expected, abs=1e-6)
    monkeypatch.setattr(metrics._distances, "PAIRS_AT_ONCE", 40)  # several chunks of rows, and a last short one
    assert metrics.gaussian_mmd(x, y) == pytest.approx(expected, abs=1e-6)


def test_gaussian_mmd_of_a_sample_with_itself_is_zero():
    assert metrics.gaussian_mmd(SIDES[0], SIDES[0]) == 0
    assert metrics.gaussian_mmd(np.ones((5, 3)), np.ones((4, 3))) == 0


def test_gaussian_mmd_of_two_points_has_a_closed_form():
    # One point a side: the mean squared distance is d^2, so k(x, y) = sum exp(-1 / b) whatever d is.
    expected = 2 * 5 - 2 * sum(np.exp(-1 / b) for b in (0.25, 0.5, 1, 2, 4))
    assert metrics.gaussian_mmd(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])) == pytest.approx(expected, rel=1e-6)


def test_gaussian_mmd_does_not_depend_on_place_or_scale():
    x, y = SIDES
    assert metrics.gaussian_mmd(100 + 7 * x, 100 + 7 * y) == pytest.approx(metrics.gaussian_mmd(x, y), abs=1e-5)


@pytest.mark.parametrize("rows", [(17, 17), (17, 9), (6, 17)])
def test_mmd_blocks_is_the_mean_over_blocks_of_twenty_genes_the_last_one_shorter(rows):
    x, y = SIDES[0][: rows[0]], SIDES[1][: rows[1]]
    blocks = [slow_mmd(x[:, :20], y[:, :20]), slow_mmd(x[:, 20:40], y[:, 20:40]), slow_mmd(x[:, 40:], y[:, 40:])]
    assert metrics.mmd_blocks(x, y) == pytest.approx(np.mean(blocks), abs=1e-6)


def test_an_empty_block_counts_zero():
    x, y = (np.concatenate([np.zeros((17, 20), np.float32), side[:, :20]], axis=1) for side in SIDES)
    assert metrics.mmd_blocks(x, y) == pytest.approx(slow_mmd(x[:, 20:], y[:, 20:]) / 2, abs=1e-6)


def test_kl_divergence_is_scipys_entropy_of_paired_rows():
    x, y = SIDES
    expected = np.mean([entropy(np.exp(a.astype(float)), np.exp(b.astype(float))) for a, b in zip(x, y, strict=True)])
    assert metrics.kl_divergence(x, y) == pytest.approx(expected, rel=1e-6)
    assert metrics.kl_divergence(x, x) == 0
    assert metrics.kl_divergence(x, y[:5]) == metrics.kl_divergence(x[:5], y[:5])


def slow_kl(x, y):
    """The definition, entry by entry."""
    rows = min(len(x), len(y))
    total = 0.0
    for i in range(rows):
        p = [math.exp(float(value)) for value in x[i]]
        q = [math.exp(float(value)) for value in y[i]]
        total += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True))
    return total / rows


@pytest.mark.parametrize("rows", [(17, 17), (17, 5), (4, 17)])
def test_kl_divergence_is_the_loop_over_the_first_rows_of_both(rows):
    x, y = SIDES[0][: rows[0]], SIDES[1][: rows[1]]
    assert metrics.kl_divergence(x, y) == pytest.approx(slow_kl(x, y), rel=1e-6)
    assert metrics.kl_divergence(x, y) != pytest.approx(metrics.kl_divergence(y, x), rel=1e-3)


def test_kl_divergence_of_large_values_does_not_overflow():
    x, y = np.array([[1000.0, 0.0]]), np.array([[1000.0, 999.0]])
    assert metrics.kl_divergence(x, y) == pytest.approx(math.log(1 + math.exp(-1)))


def test_kl_divergence_rewards_a_constant_mean_cell():
    real, other = make_cells(60, 40, 2), make_cells(60, 40, 3)
    constant = np.repeat(other.mean(axis=0, keepdims=True), 60, axis=0)
    assert metrics.kl_divergence(real, constant) < metrics.kl_divergence(real, other)


@pytest.mark.parametrize("rows", [17, 6])
def test_wasserstein_flat_is_scipys_on_all_entries(rows):
    x, y = SIDES[0], SIDES[1][:rows] - 0.3  # below zero too
    assert metrics.wasserstein_flat(x, y) == pytest.approx(wasserstein_distance(x.ravel(), y.ravel()), rel=1e-6)
    assert metrics.wasserstein_flat(x, x) == 0
    assert metrics.wasserstein_flat(x, x + np.float32(0.25)) == pytest.approx(0.25, rel=1e-5)


def slow_wasserstein(x, y):
    """The area between the two distribution functions, each counted anew over every interval between two values."""
    x, y = ([float(value) for row in side for value in row] for side in (x, y))
    points = sorted({*x, *y})
    below = [(sum(v <= left for v in x) / len(x), sum(v <= left for v in y) / len(y)) for left in points[:-1]]
    return sum(abs(f - g) * (b - a) for (f, g), a, b in zip(below, points[:-1], points[1:], strict=True))


@pytest.mark.parametrize("rows", [(7, 7), (7, 3), (2, 7)])
def test_wasserstein_flat_is_the_area_between_the_distribution_functions(rows):
    x, y = SIDES[0][: rows[0], :9], SIDES[1][: rows[1], :9]
    assert metrics.wasserstein_flat(x, y) == pytest.approx(slow_wasserstein(x, y), rel=1e-6)
    if rows[0] == rows[1]:
        closed = np.abs(np.sort(x, axis=None) - np.sort(y, axis=None)).mean()
        assert metrics.wasserstein_flat(x, y) == pytest.approx(float(closed), rel=1e-5)


@pytest.mark.parametrize("name", ["kl_divergence", "wasserstein_flat", "mmd_blocks", "gaussian_mmd"])
def test_sides_of_different_genes_are_refused(name):
    with pytest.raises(GeneMismatch, match="45 columns, synthetic ones 44; give both the same genes"):
        getattr(metrics, name)(SIDES[0], SIDES[1][:, :44])


def test_wasserstein_flat_does_not_see_which_gene_is_which():
    x, y = SIDES
    assert metrics.wasserstein_flat(x, y[:, ::-1]) == pytest.approx(metrics.wasserstein_flat(x, y))


def test_joint_pcs_agree_with_a_full_decomposition():
    x, y = correlated_cells(40, 30, 0), correlated_cells(30, 30, 1)
    first, second = metrics.joint_pcs(x, y, components=3)
    exact = PCA(3, svd_solver="full").fit_transform(np.concatenate([x, y]).astype(float))
    assert (first.shape, second.shape) == ((40, 3), (30, 3))
    np.testing.assert_allclose(np.abs(np.concatenate([first, second])[:, 0]), np.abs(exact[:, 0]), atol=1e-3)
    expected = slow_mmd(exact[:40, :1], exact[40:, :1])
    assert metrics.mmd_pca(x, y, components=1) == pytest.approx(expected, abs=1e-3)


def test_joint_pcs_shrink_with_the_data():
    assert metrics.joint_pcs(make_cells(4, 30, 0), make_cells(3, 30, 1))[0].shape == (4, 6)


def test_shuffled_genes_are_caught_by_pca_mmd_and_hardly_by_block_mmd():
    # Twenty genes a block, one of which carries the cell type: within a block there is nothing to see.
    rng = np.random.default_rng(0)

    def sample():
        cells = rng.normal(1, 0.3, (150, 200))
        cells[:, ::20] += np.where(rng.random(150) < 0.5, 4, 0)[:, None]
        return cells

    reference, other = sample(), sample()
    shuffled = rng.permuted(other, axis=0)
    assert metrics.mmd_pca(reference, shuffled) > 3 * metrics.mmd_pca(reference, other)
    assert metrics.mmd_blocks(reference, shuffled) < 1.5 * metrics.mmd_blocks(reference, other)
    assert metrics.gene_correlation_error(reference, shuffled) > metrics.gene_correlation_error(reference, other)


def test_forest_auc_is_chance_for_one_distribution_and_one_for_two():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 150, 5))
    alike = metrics.random_forest_auc(x, y, seed=3)
    assert 0.35 < alike < 0.65
    assert metrics.random_forest_auc(x, y, seed=3) == alike
    assert metrics.random_forest_auc(x, y + 4, seed=3) > 0.99


def test_gene_correlation_error_is_the_loop():
    x, y = (np.delete(side, 3, axis=1)[:, :8].astype(float) for side in SIDES)
    pairs = [(i, j) for i in range(8) for j in range(8) if i != j]
    expected = np.mean([abs(pearsonr(x[:, i], x[:, j])[0] - pearsonr(y[:, i], y[:, j])[0]) for i, j in pairs])
    assert metrics.gene_correlation_error(x, y) == pytest.approx(expected, rel=1e-9)
    top = np.argsort(-x.var(axis=0))[:4]
    assert metrics.gene_correlation_error(x, y, genes=4) == pytest.approx(
        metrics.gene_correlation_error(x[:, top], y[:, top])
    )


def test_a_constant_gene_correlates_zero_and_is_not_left_out():
    x = correlated_cells(50, 6, 0)
    constant = np.full_like(x, 0.1)
    strength = np.abs(np.corrcoef(x.T.astype(float))[~np.eye(6, dtype=bool)]).mean()
    assert metrics.gene_correlation_error(x, constant) == pytest.approx(strength, rel=1e-5)
    assert metrics.gene_correlation_error(constant, x) == 0


def test_zero_fractions_and_sizes_are_counts():
    x = np.array([[0, 1.0, 2.0], [0, 0, 3.0]], np.float32)
    y = np.array([[1.0, 1.0, 0], [0, 2.0, 0]], np.float32)
    np.testing.assert_allclose(metrics.zero_fraction_per_gene(x), [1, 0.5, 0])
    assert metrics.zero_fraction_error(x, y) == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert metrics.zero_fraction_difference(x, y) == pytest.approx(0)
    np.testing.assert_allclose(metrics.library_sizes(x), [3, 3])
    np.testing.assert_array_equal(metrics.detected_genes(x), [2, 1])
    assert metrics.detected_genes_ratio(x, y) == pytest.approx(1)
    assert metrics.detected_genes_spread(x, y) == pytest.approx(1)
    assert np.isnan(metrics.library_size_spread(x, y))


def test_library_size_spread_is_a_ratio_of_deviations():
    x = make_cells(50, 10, 5)
    assert metrics.library_size_spread(x, 0.5 * x) == pytest.approx(0.5, rel=1e-6)


def test_gene_mean_correlation_is_pearsons():
    x, y = SIDES
    assert metrics.gene_mean_correlation(x, y) == pytest.approx(pearsonr(x.mean(0), y.mean(0))[0], abs=1e-5)
    assert metrics.gene_mean_correlation(x, np.ones_like(x)) == 0


def test_coefficient_of_variation_is_sd_over_mean():
    x = np.concatenate([SIDES[0], np.zeros((17, 1), np.float32)], axis=1)
    cv = metrics.coefficient_of_variation(x)
    np.testing.assert_allclose(cv[:-1], x[:, :-1].std(axis=0) / x[:, :-1].mean(axis=0), rtol=1e-4)
    assert np.isnan(cv[-1])


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize(
    "name",
    [
        "kl_divergence",
        "wasserstein_flat",
        "mmd_blocks",
        "mmd_pca",
        "gene_correlation_error",
        "zero_fraction_error",
        "zero_fraction_difference",
        "library_size_spread",
        "detected_genes_spread",
        "detected_genes_ratio",
        "gene_mean_correlation",
        "library_size_ks",
        "detected_genes_ks",
        "coefficient_of_variation_error",
    ],
)
def test_sparse_matrices_score_as_dense_ones(name, kind):
    x, y = SIDES
    metric = getattr(metrics, name)
    assert metric(kind(x), kind(y)) == pytest.approx(metric(x, y), rel=1e-5, abs=1e-7)


def test_sparse_coefficient_of_variation():
    np.testing.assert_allclose(
        metrics.coefficient_of_variation(sparse.csr_matrix(SIDES[0])),
        metrics.coefficient_of_variation(SIDES[0]),
        rtol=1e-4,
    )


def slow_ks(x, y):
    """The widest gap between two distribution functions, each counted at every value."""
    return max(abs(np.mean(x <= v) - np.mean(y <= v)) for v in [*x, *y])


def test_the_ks_statistics_are_the_widest_gap():
    x, y = SIDES[0], SIDES[1][:9]
    assert metrics.library_size_ks(x, y) == pytest.approx(slow_ks(x.sum(axis=1), y.sum(axis=1)))
    assert metrics.detected_genes_ks(x, y) == pytest.approx(slow_ks((x > 0).sum(axis=1), (y > 0).sum(axis=1)))
    assert metrics.library_size_ks(x, x) == 0
    assert metrics.library_size_ks(x, x + 10) == 1


def test_the_error_of_the_coefficient_of_variation_is_relative_and_a_lost_gene_counts():
    x, y = (side.astype(float).copy() for side in SIDES)
    x[:, 3] = 0  # not seen in real cells: left out
    y[:, 5] = 0  # lost: as if in one of the 17 cells
    genes = [gene for gene in range(45) if gene != 3]
    cv = [x[:, g].std() / x[:, g].mean() for g in genes], [y[:, g].std() / max(y[:, g].mean(), 1e-9) for g in genes]
    cv[1][genes.index(5)] = 4.0
    expected = np.mean([abs(b - a) / a for a, b in zip(*cv, strict=True)])
    assert metrics.coefficient_of_variation_error(x, y) == pytest.approx(expected)
    assert metrics.coefficient_of_variation_error(x, 7 * x) == pytest.approx(0, abs=1e-9)
    assert np.isnan(metrics.coefficient_of_variation_error(np.ones((4, 3)), np.ones((4, 3))))
