"""Small forests and pictures, and training that takes no time."""

from types import SimpleNamespace

import numpy as np
import pytest

from scrdit_jax.evaluation import plots
from scrdit_jax.evaluation.metrics import leading


@pytest.fixture
def small(monkeypatch):
    """Scores of eight trees, and pictures of few dots."""
    monkeypatch.setattr(leading, "FOREST_TREES", 8)
    monkeypatch.setattr(plots, "TSNE_ITERATIONS", 250)
    monkeypatch.setattr(plots, "DOTS_PER_INCH", 40)


@pytest.fixture
def trained(monkeypatch):
    """Folders trained into, in order; nothing is trained, and cells are training cells with a little noise."""
    from benchmarks.fidelity import generators

    folders = []

    def train(prepared, *, out, preset):
        folders.append(out)
        return SimpleNamespace(path=out, stopped=None)

    def sampled(run, cells, count, seed, sampling):
        rng = np.random.default_rng([seed, len(str(run)), *(len(name) for name in sampling)])
        noise = rng.normal(0, 0.1, (count, cells.training.shape[1]))
        made = np.maximum(cells.training[rng.integers(len(cells.training), size=count)] + noise, 0)
        return generators.Made(made.astype(np.float32), None, 1.5, 100.0)

    monkeypatch.setattr(generators.scrdit, "train", train)
    monkeypatch.setattr(generators, "sampled", sampled)
    return folders


@pytest.fixture
def folder_of_run(labelled_cells, tiny_run, tmp_path, monkeypatch):
    """The current folder, with the cells counts.h5ad and the run that was trained on them."""
    labelled_cells.write_h5ad(tmp_path / "counts.h5ad")
    (tmp_path / "run").symlink_to(tiny_run.path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
