import anndata
import numpy as np
import pytest

from scrdit_jax.errors import BadConfig, BadInput, GeneMismatch
from scrdit_jax.evaluation import comparison, metrics
from scrdit_jax.evaluation.comparison import REAL, SHUFFLED, Estimate, compare, estimate_text, figure, halves
from scrdit_jax.evaluation.pools import draw_pools

METRICS = metrics.all_metrics()


def score(real, synthetic, *, seed=0, repeats=5, max_cells=2000):
    pools = draw_pools(real, synthetic, seed=seed, max_cells=max_cells)
    return comparison.score_repeats(pools.real, pools.synthetic, seed=seed, repeats=repeats)


def notes_of(real, synthetic, max_cells=2000):
    return draw_pools(real, synthetic, seed=0, max_cells=max_cells).notes


@pytest.fixture
def pairs(monkeypatch):
    """What `compare` was given, in order; the comparison itself is left out."""
    seen = []

    def record(reference, cells, *, seed):
        seen.append((reference, cells))
        return {metric.name: float(len(seen)) for metric in METRICS}

    monkeypatch.setattr(comparison, "compare", record)
    return seen


def rows_of(cells):
    return {row.tobytes() for row in cells}


def test_every_metric_has_every_candidate(real, synthetic):
    result = score(real, synthetic, repeats=1)
    assert list(result.values) == [metric.name for metric in METRICS]
    for name, candidates in result.values.items():
        assert tuple(candidates) == comparison.CANDIDATES
        # Half of 50 real cells have 24 components.
        assert all(np.isfinite(e.mean) != (name == "variance_pcs_31_50") for e in candidates.values())
    assert (result.genes, result.cells_per_side, result.repeats) == (60, 50, 1)
    # Cells of one distribution stand near the floor, and shuffled genes far from it.
    mmd = result.values["mmd_pca"]
    assert mmd["synthetic"].mean < 2 * mmd["real vs real"].mean < mmd["genes shuffled"].mean


def test_sides_are_equal_disjoint_and_shuffled_by_gene(real, synthetic, pairs):
    result = score(real, synthetic, repeats=3)
    assert len(pairs) == 9
    for start in range(0, 9, 3):
        (reference, drawn), (same, floor), (_, shuffled) = pairs[start : start + 3]
        assert reference is same
        assert len(reference) == len(drawn) == len(floor) == len(shuffled) == result.cells_per_side == 50
        assert not rows_of(reference) & rows_of(floor)
        assert rows_of(reference) | rows_of(floor) < rows_of(real.X.toarray())
        assert len(rows_of(drawn)) == 50
        assert rows_of(drawn) < rows_of(synthetic.X.toarray())
        np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(floor, axis=0))
        assert not rows_of(shuffled) & rows_of(floor)
    assert rows_of(pairs[0][0]) != rows_of(pairs[3][0])
    estimate = result.values["mmd_pca"]["synthetic"]
    assert (estimate.mean, estimate.sd) == (4, 3)  # 1, 4, 7


def test_few_synthetic_cells_set_the_size_and_are_noted(real, synthetic, pairs):
    result = score(real, synthetic[:30].copy(), repeats=1)
    assert result.cells_per_side == 30
    assert {len(side) for pair in pairs for side in pair} == {30}
    assert any("fewer synthetic cells (30)" in note for note in notes_of(real, synthetic[:30].copy()))


def test_max_cells_bounds_both_sides_and_is_noted(real, synthetic, pairs):
    result = score(real, synthetic, repeats=1, max_cells=60)
    assert result.cells_per_side == 30
    assert sum("60 of the" in note for note in notes_of(real, synthetic, 60)) == 2


def test_one_seed_one_result(real, synthetic, no_forest):
    first, again, other = (score(real, synthetic, repeats=1, seed=seed) for seed in (3, 3, 4))
    # As text: what there are no components for is NaN, which equals nothing.
    assert repr(first) == repr(again)
    assert repr(first.values) != repr(other.values)


def test_gene_order_does_not_matter_and_dense_is_sparse(real, synthetic, no_forest):
    turned = real[:, ::-1].copy()
    turned.X = turned.X.toarray()
    assert repr(score(turned, synthetic, repeats=1)) == repr(score(real, synthetic, repeats=1))


def test_a_backed_file_is_read_in_part(real, synthetic, tmp_path, pairs):
    synthetic.write_h5ad(tmp_path / "cells.h5ad")
    score(real, synthetic, repeats=1, max_cells=60)
    score(real, anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r"), repeats=1, max_cells=60)
    np.testing.assert_array_equal(pairs[0][1], pairs[3][1])


def test_different_genes_are_counted_and_named(real, synthetic):
    with pytest.raises(GeneMismatch, match=r"2 of the synthetic genes .* \(first: 'GENE3'\).*pass real cells"):
        score(real[:, ~real.var_names.isin(["GENE3", "GENE5"])].copy(), synthetic)
    with pytest.raises(GeneMismatch, match=r"1 of the real genes .* \(first: 'GENE0'\)"):
        score(real, synthetic[:, 1:].copy())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(real, synthetic, bad):
    real.X.data[7] = bad
    with pytest.raises(BadInput, match="1 values of the held-out cells are NaN or infinite; remove"):
        score(real, synthetic)


def test_other_bad_input(real, synthetic):
    with pytest.raises(BadInput, match="19 held-out cells are too few to score; hold out"):
        score(real[:19].copy(), synthetic)
    with pytest.raises(BadInput, match="3 synthetic cells are too few to score; generate more"):
        score(real, synthetic[:3].copy())
    with pytest.raises(BadConfig, match="repeats is 0"):
        score(real, synthetic, repeats=0)
    with pytest.raises(BadConfig, match="max_cells is 10"):
        score(real, synthetic, max_cells=10)
    real.var_names = ["GENE0", *real.var_names[:-1]]
    with pytest.raises(BadInput, match="'GENE0' twice"):
        score(real, synthetic)


def test_another_scale_is_noted(real, synthetic):
    synthetic.X = synthetic.X * 20
    assert any("same scale" in note for note in notes_of(real, synthetic))


def test_compare_fits_the_components_once_for_the_pair(real, synthetic, no_forest):
    x, y = real.X.toarray()[:50], synthetic.X.toarray()[:50]
    values = compare(x, y, seed=5)
    assert values["mmd_pca"] == pytest.approx(metrics.mmd_pca(x, y, seed=5))
    assert set(values) == {metric.name for metric in METRICS}
    assert compare(x, y, seed=5, names=["mmd_blocks"]) == {"mmd_blocks": values["mmd_blocks"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8712, "0.871"), (12.345, "12.3"), (0.00612, "0.0061"), (0, "0"), (-0.02, "-0.0200"), (1234, "1234")],
)
def test_figure(value, text):
    assert figure(value) == text


def test_estimates_without_a_value():
    assert estimate_text(Estimate(float("nan"), float("nan"))) == "n/a"
    assert str(Estimate(0.8712, 0.0123)) == "0.871 ± 0.012"
    assert Estimate.of([1.0, 3.0]) == Estimate(2.0, 2**0.5)
    assert Estimate.of([4.0]) == Estimate(4.0, 0.0)
    assert Estimate(0.5, float("nan")).to_dict() == {"mean": 0.5, "sd": None}


def test_halves_are_disjoint_and_whole_by_number_or_by_cell():
    reference, other = halves(11, 3)
    assert len(reference) == len(other) == 5
    assert len({*reference, *other}) == 10
    cells = np.arange(22.0).reshape(11, 2)
    np.testing.assert_array_equal(halves(cells, 3)[0], cells[reference])
    np.testing.assert_array_equal(halves(cells, 3)[1], cells[other])
    assert [len(side) for side in halves(11, 3, size=2)] == [2, 2]
    assert list(halves(11, 3)[0]) == list(reference) != list(halves(11, [3, 1])[0])


def test_the_floor_is_the_other_half_and_the_control_is_shuffled(real, pairs):
    reference, other = halves(real.X.toarray(), 0)
    found = comparison.floor_and_control(reference, other, seed=4, rng=np.random.default_rng(1))
    assert list(found) == [REAL, SHUFFLED]
    (first, floor), (second, shuffled) = pairs
    assert first is second is reference
    assert floor is other
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(other, axis=0))
    assert not rows_of(shuffled) & rows_of(other)


def test_unequal_numbers_and_a_short_block_are_said(real, synthetic):
    notes = notes_of(real, synthetic)  # 101 and 140 cells, 60 genes
    assert notes == (
        "There are 140 synthetic and 101 held-out cells; every comparison draws 50 of either, so that no metric sees "
        "unequal numbers.",
    )
    notes = notes_of(real[:, :47].copy(), synthetic[:50, :47].copy())
    assert notes == (
        "20 genes a block do not divide 47: the last of the block MMD's 3 has 7, and counts as much as the others.",
    )
