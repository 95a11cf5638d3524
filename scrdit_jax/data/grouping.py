"""Groups of similar cells, found in the cells themselves: what a model is told where nobody has labelled them.

Which kind of cell is to be made is the hardest thing for a diffusion model to learn, and the first that it decides. Of
a model that is told a group, each group is drawn as often as training cells are in it, so rare kinds keep their share
(cluster-conditioned diffusion: Hu et al. 2023; Adaloglou et al. 2024).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.cluster.vq import kmeans2, vq
from scipy.linalg import eigh

from .checking import Matrix, row_blocks
from .stored import StoredRows

COLUMN = "scrdit_group"
COMPONENTS = 20
RESTARTS = 5
ITERATIONS = 50
# A group of fewer training cells is given to its neighbours: nothing of it could be learnt.
LEAST_CELLS = 8
CELLS_FOR_EACH = 30
# Groups are found from so many values of the training cells at most; all cells are then put into them.
MOST_VALUES = 1 << 27


def find_groups(x: Matrix, held_out: np.ndarray, groups: int, *, seed: int) -> pd.Categorical:
    """For each cell of `x` (cell, gene), log scale, its group's number as a word: "0" is the largest group.

    k-means in the first 20 principal components, both of training cells alone; the best of five starts. At most one
    group for 30 training cells; groups of under 8 training cells are dissolved, so there may be fewer than `groups`.
    """
    training = np.flatnonzero(~held_out)
    rng = np.random.default_rng(seed)
    groups = min(groups, len(training) // CELLS_FOR_EACH)
    components = min(COMPONENTS, len(training) - 1, x.shape[1] - 1)
    if groups < 2 or components < 1:
        return pd.Categorical(["0"] * x.shape[0])
    sample = np.sort(rng.permutation(training)[: max(MOST_VALUES // x.shape[1], groups * CELLS_FOR_EACH)])
    cells = (x.take(sample) if isinstance(x, StoredRows) else x[sample]).toarray()
    mean = cells.mean(axis=0)
    axes = _principal_axes(cells - mean, components)
    if not axes.size:
        return pd.Categorical(["0"] * x.shape[0])

    def place(cells: np.ndarray) -> np.ndarray:
        return ((cells - mean) @ axes).astype(np.float64)

    centres = _largest_first(place(cells), _k_means(place(cells), groups, rng))
    codes = np.concatenate([vq(place(_dense(block)), centres)[0] for block in row_blocks(x)])
    return pd.Categorical.from_codes(codes, [str(i) for i in range(len(centres))])


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """(gene, component): unit vectors along which `centred` (cell, gene) varies most; fewer where it does not vary."""
    cells, genes = centred.shape
    gram = centred.T @ centred if genes <= cells else centred @ centred.T
    values, vectors = eigh(gram, subset_by_index=[len(gram) - components, len(gram) - 1])
    kept = values > 1e-6 * max(values[-1], 1e-30)
    vectors = vectors[:, kept] if genes <= cells else centred.T @ vectors[:, kept]
    return vectors / np.linalg.norm(vectors, axis=0)


def _k_means(places: np.ndarray, groups: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of the start with the least sum of squared distances; fewer than `groups` where some are empty."""
    best, least = places[:1], np.inf
    for _ in range(RESTARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty group is left out
            centres, codes = kmeans2(places, groups, iter=ITERATIONS, minit="++", seed=rng)
        centres = centres[np.unique(codes)]
        error = float(np.square(vq(places, centres)[1]).sum())
        if error < least:
            best, least = centres, error
    return best


def _largest_first(places: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Centres without those of too few cells, one after another, and in the order of their cells."""
    while True:
        counts = np.bincount(vq(places, centres)[0], minlength=len(centres))
        if len(centres) == 1 or counts.min() >= LEAST_CELLS:
            return centres[np.argsort(-counts, kind="stable")]
        centres = np.delete(centres, counts.argmin(), axis=0)


def _dense(block) -> np.ndarray:
    return block.toarray() if hasattr(block, "toarray") else np.asarray(block)
