"""States of cells: against scikit-learn's PCA and numbers counted by hand, decided by training cells alone."""

import anndata
import numpy as np
import pytest
from scipy import sparse
from sklearn.decomposition import PCA

from scrdit_jax.api import prepare
from scrdit_jax.conditioning.derived import CellView, column_names, principal_axes
from scrdit_jax.conditioning.state import PARTS, StateFit
from scrdit_jax.errors import BadConfig
from scrdit_jax.io import checking

KINDS, CELLS, GENES = 5, 600, 40
WANTED = {"pc-scores": 3, "detected-genes": 1, "library-size": 1}


@pytest.fixture(scope="module")
def cells():
    """(cells in CSR, their library sizes): five kinds of unequal frequency."""
    random = np.random.default_rng(3)
    kind = random.choice(KINDS, CELLS, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    centres = random.gamma(0.5, 2.0, size=(KINDS, GENES))
    x = np.maximum(centres[kind] + 0.3 * random.standard_normal((CELLS, GENES)), 0).astype(np.float32)
    return sparse.csr_matrix(x), random.integers(500, 4000, CELLS).astype(np.float32)


def fitted(x, library, held_out=None, wanted=WANTED, counts=True, **options):
    held_out = np.zeros(x.shape[0], bool) if held_out is None else held_out
    fit = StateFit(held_out, x.shape[1], wanted, counts=counts, seed=0, **options)
    fit.fit(x[fit.sample].toarray())
    for first in range(0, x.shape[0], 100):
        fit.update(CellView(x[first : first + 100], library[first : first + 100]))
    return fit.finish()


def test_states_are_pc_scores_detected_genes_and_library_size_standardised(cells):
    x, library = cells
    held_out = np.arange(CELLS) % 3 == 0
    space, states = fitted(x, library, held_out)
    scores = PCA(3, svd_solver="full").fit(x.toarray()[~held_out]).transform(x.toarray())
    raw = np.concatenate([scores, np.log1p(np.diff(x.indptr))[:, None], np.log(library)[:, None]], axis=1)
    wanted = (raw - raw[~held_out].mean(axis=0)) / raw[~held_out].std(axis=0)
    wanted[:, :3] *= np.sign((wanted * states)[:, :3].sum(axis=0))  # an axis points either way
    np.testing.assert_allclose(states, wanted, atol=2e-3)
    assert [column.source for column in space.columns] == ["pc-scores"] * 3 + ["detected-genes", "library-size"]
    assert all(column.conditioned for column in space.columns)
    np.testing.assert_array_equal(space.states(x, library), states)
    assert len(space.axes) == 6
    assert len(space.alone.axes) == 1


def test_as_many_scores_are_kept_as_cells_aside_vary_along(cells):
    """Five kinds make four axes; what follows is noise, and so is the other matrix."""
    x, library = cells
    wanted = {"pc-scores": 12, "detected-genes": 1}
    space, states = fitted(x, library, np.arange(CELLS) % 3 == 0, wanted, least_reproduced=0.95)
    assert space.kinds == {"pc-scores": 4, "detected-genes": 1, "library-size": 1}
    assert [column.conditioned for column in space.columns] == [True] * 5 + [False]
    assert space.axes.shape == (6, GENES + 1, 4)
    of_four, _ = fitted(x, library, np.arange(CELLS) % 3 == 0, {"pc-scores": 4, "detected-genes": 1})
    assert space.digest == of_four.digest
    assert states.shape == (CELLS, 6)
    noise = sparse.csr_matrix(np.random.default_rng(0).random((600, 300), np.float32))
    assert fitted(noise, library, wanted=wanted, least_reproduced=0.66)[0].kinds["pc-scores"] == 1
    assert fitted(noise, library, wanted=wanted)[0].kinds["pc-scores"] == 12


def test_training_cells_are_measured_along_axes_that_were_found_without_them():
    """Noise alone: along axes found in the same cells they vary more than new cells do, along those of a fold not."""
    x = sparse.csr_matrix(np.random.default_rng(0).random((800, 200), np.float32))
    held_out = np.arange(800) % 2 == 1
    space, states = fitted(x, np.ones(800, np.float32), held_out, {"pc-scores": 4}, counts=False)
    new = states[held_out].var(axis=0)
    assert np.mean(states[~held_out].var(axis=0) / new) > 2
    assert 0.85 < np.mean(space.states_apart(x[~held_out], np.ones(400)).var(axis=0) / new) < 1.15


def test_axes_point_to_their_largest_loading_and_are_the_same_for_negligibly_different_cells(cells):
    x = cells[0].toarray().astype(np.float64)
    axes = principal_axes(x, 4)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
    assert np.all(largest > 0)
    np.testing.assert_array_equal(principal_axes(x[::-1] * (1 + 1e-13), 4), axes)


def test_states_lie_on_a_grid_that_rounding_errors_do_not_leave(cells):
    x, library = cells
    states = fitted(x, library)[1]
    np.testing.assert_array_equal(states * PARTS, np.round(states * PARTS))


def test_held_out_cells_have_states_but_decide_nothing(cells):
    x, library = cells
    held_out = np.arange(CELLS) % 3 == 0
    changed = x.copy()
    changed[np.flatnonzero(held_out)[:150]] *= 7
    first, second = fitted(x, library, held_out), fitted(changed, library, held_out)
    assert first[0].digest == second[0].digest
    np.testing.assert_array_equal(second[1][~held_out], first[1][~held_out])
    assert (second[1] != first[1]).any()


def test_few_or_equal_cells_have_states_of_zeros(cells):
    x, library = cells
    for some in (x[:2], sparse.csr_matrix(np.ones((30, GENES), np.float32))):
        space, states = fitted(some, library[: some.shape[0]])
        assert np.isfinite(states).all()
        assert states.shape == (some.shape[0], 5)
        assert space.axes.shape[1:] == (GENES + 1, 3)
    assert not states[:, :4].any()


def test_library_sizes_are_kept_of_counts_alone(cells):
    space, states = fitted(*cells, wanted={"pc-scores": 2}, counts=True)
    assert [(c.source, c.conditioned) for c in space.columns][2:] == [("library-size", False)]
    assert states.shape == (CELLS, 3)
    space, states = fitted(*cells, counts=False)
    assert [column.source for column in space.columns] == ["pc-scores"] * 3 + ["detected-genes"]


def test_cells_on_a_disk_have_the_same_states(cells, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(checking, "ROWS_PER_BLOCK", 64)
    adata = anndata.AnnData(cells[0])
    adata.obs["scrdit_detected_genes"] = "mine"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    options = {"preset": tiny_config, "derive": {"pc-scores": 2, "detected-genes": 1}, "normalize": "none"}
    memory = prepare(tmp_path / "cells.h5ad", **options, stream=False)
    disk = prepare(tmp_path / "cells.h5ad", **options, stream=True)
    assert disk.on_disk
    assert disk.metadata == memory.metadata
    assert disk.space.digest == memory.space.digest
    assert [c.name for c in memory.metadata.state] == [*column_names("pc-scores", 2), "scrdit_detected_genes"]
    for column in memory.metadata.state:
        np.testing.assert_array_equal(memory.cells.obs[column.name], disk.cells.obs[column.name])
    assert any("was replaced" in note for note in memory.metadata.notes)
    assert "conditioned on 2 PC scores, number of detected genes" in memory.metadata.notes
    moved = memory.in_space(disk.space)
    np.testing.assert_array_equal(moved.cells.obs, memory.cells.obs)


def test_what_cannot_be_derived_is_refused(tiny_config):
    with pytest.raises(BadConfig, match="derive is 'moods'; it must be one of detected-genes, library-size, pc-scores"):
        tiny_config.with_settings({"derive": {"moods": 3}})
    with pytest.raises(
        BadConfig, match="derive of pc-scores is 51; it must be a whole number, 1 or more and at most 50"
    ):
        tiny_config.with_settings({"derive": {"pc-scores": 51}})
