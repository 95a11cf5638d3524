"""What a cell is like, found in the cells themselves: told to a model where nobody has labelled them.

Which kind of cell is to be made, and how large a one, is the hardest thing for a diffusion model to learn, and the
first that it decides. Told both, it need not; and as both are drawn as training cells have them, rare kinds keep their
share (cluster-conditioned diffusion: Hu et al. 2023; Adaloglou et al. 2024).
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.cluster.vq import kmeans2, vq
from scipy.linalg import eigh

from .checking import Matrix, row_blocks
from .stored import StoredRows

KIND, SIZE = COLUMNS = "scrdit_kind", "scrdit_size"
COMPONENTS = 20
RESTARTS = 5
ITERATIONS = 50
# A kind of fewer training cells is given to its neighbours: nothing of it could be learnt.
LEAST_CELLS = 8
CELLS_FOR_EACH = 24
SIZES = 8
# Groups are found from so many values of the training cells at most; all cells are then put into them.
MOST_VALUES = 1 << 27


def find_groups(x: Matrix, held_out: np.ndarray, groups: int, *, seed: int) -> dict[str, pd.Categorical]:
    """For each cell of `x` (cell, gene), log scale, its kind and its size as numbers in words, by column.

    `groups` kinds by k-means in the first 20 principal components, the best of five starts; and eight classes of how
    many genes a cell expresses, equally frequent. Training cells alone decide. For few of them there are fewer: one
    kind or class for 24 cells at most, and kinds of under 8 are dissolved.
    """
    kinds = find_kinds(x, held_out, groups, seed=seed)
    expressed = np.concatenate([np.asarray((block > 0).sum(axis=1)).ravel() for block in row_blocks(x)])
    training = expressed[~held_out]
    classes = max(1, min(SIZES, len(training) // CELLS_FOR_EACH))
    edges = np.unique(np.quantile(training, np.arange(1, classes) / classes, method="lower"))
    sizes = np.searchsorted(edges[edges < training.max()], expressed)
    return {KIND: _words(kinds), SIZE: _words(sizes)}


def find_kinds(x: Matrix, held_out: np.ndarray, kinds: int, *, seed: int) -> np.ndarray:
    """For each cell the number of its kind, (cell,) int: the largest kind is 0; see `find_groups`."""
    training = np.flatnonzero(~held_out)
    rng = np.random.default_rng(seed)
    kinds = min(kinds, len(training) // CELLS_FOR_EACH)
    components = min(COMPONENTS, len(training) - 1, x.shape[1] - 1)
    if kinds < 2 or components < 1:
        return np.zeros(x.shape[0], np.int64)
    sample = np.sort(rng.permutation(training)[: max(MOST_VALUES // x.shape[1], kinds * CELLS_FOR_EACH)])
    cells = (x.take(sample) if isinstance(x, StoredRows) else x[sample]).toarray()
    mean = cells.mean(axis=0)
    axes = _principal_axes(cells - mean, components)
    if not axes.size:
        return np.zeros(x.shape[0], np.int64)

    def place(cells: np.ndarray) -> np.ndarray:
        return ((cells - mean) @ axes).astype(np.float64)

    centres = _largest_first(place(cells), _k_means(place(cells), kinds, rng))
    return np.concatenate([vq(place(_dense(block)), centres)[0] for block in row_blocks(x)])


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """(gene, component): unit vectors along which `centred` (cell, gene) varies most; fewer where it does not vary."""
    cells, genes = centred.shape
    gram = centred.T @ centred if genes <= cells else centred @ centred.T
    values, vectors = eigh(gram, subset_by_index=[len(gram) - components, len(gram) - 1])
    kept = values > 1e-6 * max(values[-1], 1e-30)
    vectors = vectors[:, kept] if genes <= cells else centred.T @ vectors[:, kept]
    return vectors / np.linalg.norm(vectors, axis=0)


def _k_means(places: np.ndarray, kinds: int, rng: np.random.Generator) -> np.ndarray:
    """Centres of the start with the least sum of squared distances; fewer than `kinds` where some are empty."""
    best, least = places[:1], np.inf
    for _ in range(RESTARTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an empty kind is left out
            centres, codes = kmeans2(places, kinds, iter=ITERATIONS, minit="++", seed=rng)
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


def _words(codes: np.ndarray) -> pd.Categorical:
    return pd.Categorical.from_codes(codes, [str(i) for i in range(codes.max() + 1)])


def _dense(block) -> np.ndarray:
    return block.toarray() if hasattr(block, "toarray") else np.asarray(block)
