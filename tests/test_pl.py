"""Plots that users call: axes of what they say, on the same scale as an evaluation."""

import json
import shutil

import anndata
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import scrdit_jax as scrdit
from scrdit_jax import pl
from scrdit_jax.checkpoint import Run
from scrdit_jax.errors import BadConfig, BadInput


@pytest.fixture(scope="module")
def synthetic(tiny_run):
    return scrdit.sample(tiny_run, 40, steps=2)


@pytest.fixture(autouse=True)
def no_figures():
    yield
    plt.close("all")


def points_of(ax):
    return [np.asarray(each.get_offsets()) for each in ax.collections if len(each.get_offsets())]


@pytest.mark.parametrize("basis", ["pca", "tsne"])
def test_both_sides_are_points_of_one_embedding(tiny_run, synthetic, basis):
    held_out = anndata.read_h5ad(tiny_run.held_out_path).n_obs
    ax = pl.embedding(tiny_run, synthetic, basis=basis)
    assert isinstance(ax, Axes)
    assert sum(map(len, points_of(ax))) == held_out + 40
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [f"real ({held_out})", "synthetic (40)"]


@pytest.mark.slow
def test_umap_and_types_of_the_real_cells(tiny_run, synthetic):
    ax = pl.embedding(tiny_run, synthetic, color="cell_type", max_cells=40)
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    assert labels == {"synthetic", "T cell", "B cell"}
    assert sum(map(len, points_of(ax))) == anndata.read_h5ad(tiny_run.held_out_path).n_obs + 40
    assert "UMAP" in ax.get_title()


def test_genes_are_those_of_the_held_out_cells_on_the_scale_of_the_model(tiny_cells, tiny_run, synthetic):
    held_out = anndata.read_h5ad(tiny_run.held_out_path)
    for draw, of in ((pl.gene_means, lambda x: x.mean(axis=0)), (pl.zero_fractions, lambda x: (x == 0).mean(axis=0))):
        for real in (tiny_run, tiny_cells):  # the counts are split and normalised as the record says
            (points,) = points_of(draw(real, synthetic))
            expected = np.sort(of(held_out.X.toarray()))
            np.testing.assert_allclose(np.sort(points[:, 0]), expected, rtol=1e-4, atol=1e-6)


def test_given_axes_are_drawn_on_and_given_back(tiny_run, synthetic):
    ax = Figure().subplots()
    assert pl.library_sizes(tiny_run, synthetic, ax=ax) is ax
    assert ax.patches
    assert not plt.get_fignums()


def test_training_curve(tiny_run, tmp_path):
    lines = [json.loads(line) for line in tiny_run.metrics_path.read_text().splitlines()]
    (line,) = pl.training_curve(tiny_run).lines
    np.testing.assert_allclose(line.get_xydata(), [[row["step"], row["loss"]] for row in lines])
    shutil.copytree(tiny_run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    rows = [{"step": i, "epoch": i, "mmd_pca": 1 / i, "mmd_pca_floor": 0.1} for i in (1, 2, 3)]
    run.evaluations_path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores, floor = pl.training_curve(run.path, score="mmd_pca").lines
    np.testing.assert_allclose(scores.get_ydata(), [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(floor.get_ydata(), 0.1)


def test_what_cannot_be_drawn_is_one_line(tiny_run, synthetic):
    for call, words in (
        (lambda: pl.embedding(tiny_run, synthetic, basis="map"), "basis is 'map'; it must be one of umap, tsne, pca"),
        (lambda: pl.embedding(tiny_run, synthetic, ax="axes"), "matplotlib's axes"),
        (lambda: pl.training_curve(tiny_run, score="mmd_pca"), "evaluate_every"),
        (lambda: pl.training_curve(tiny_run, score="auc"), "one of loss, held_out_loss"),
    ):
        with pytest.raises(BadConfig, match=words):
            call()
    with pytest.raises(BadInput, match="no column 'donor'; their columns: "):
        pl.embedding(tiny_run, synthetic, color="donor")
