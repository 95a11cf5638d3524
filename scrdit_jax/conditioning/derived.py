"""What a cell is like, found in the cells themselves: told to a model where nobody has labelled them.

Which kind of cell is to be made, and how large a one, is the hardest thing for a diffusion model to learn, and the
first that it decides. Told both, it need not; and as both are drawn as training cells have them, rare kinds keep their
share (cluster-conditioned diffusion: Hu et al. 2023; Adaloglou et al. 2024). The same holds within a kind, for what
varies along the principal components (conditioned on a representation of the sample: Li et al. 2023); there a place is
told coarsely, so that what is drawn is no copy of a training cell.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.cluster.vq import kmeans2, vq
from scipy.linalg import eigh

from ..io.backed import BackedMatrix
from ..io.checking import Matrix, row_blocks

KIND, SIZE = "scrdit_kind", "scrdit_size"
PLACE = "scrdit_place_"
COMPONENTS = 20
RESTARTS = 5
ITERATIONS = 50
# A kind of fewer training cells is given to its neighbours: nothing of it could be learnt.
LEAST_CELLS = 8
CELLS_FOR_EACH = 24
SIZES = 8
PLACES = 6
# Groups are found from so many values of the training cells at most; all cells are then put into them.
MOST_VALUES = 1 << 27


def is_group(column: str) -> bool:
    """Whether `column` of obs is one of those that `find_groups` gives."""
    return column in (KIND, SIZE) or column.startswith(PLACE)


def find_groups(
    x: Matrix, held_out: np.ndarray, groups: int, components: int = 0, *, seed: int
) -> dict[str, pd.Categorical]:
    """For each cell of `x` (cell, gene), log scale, its kind, its size and its places as numbers in words, by column.

    `groups` kinds by k-means in the first 20 principal components, the best of five starts; eight classes of how many
    genes a cell expresses, equally frequent; and six such classes of the place along each of the first `components`
    (20 at most), a column each. Training cells alone decide. For few of them there are fewer: one kind or class for 24
    cells at most, and kinds of under 8 are dissolved.
    """
    rng = np.random.default_rng(seed)
    training = np.flatnonzero(~held_out)
    sample = np.sort(rng.permutation(training)[: max(MOST_VALUES // x.shape[1], groups * CELLS_FOR_EACH)])
    place = _placing((x.take(sample) if isinstance(x, BackedMatrix) else x[sample]).toarray())
    blocks = [(place(_dense(block)), np.asarray((block > 0).sum(axis=1)).ravel()) for block in row_blocks(x)]
    places, expressed = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    found = {
        KIND: _kinds(places, sample, min(groups, len(training) // CELLS_FOR_EACH), rng),
        SIZE: _classes(expressed, training, SIZES),
    }
    for i, along in enumerate(places.T[:components]):
        found[f"{PLACE}{i + 1}"] = _classes(along, training, PLACES)
    return {column: _words(codes) for column, codes in found.items()}


def _placing(cells: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Gives cells (cell, gene) their places (cell, component) along the principal axes of `cells`, largest first."""
    mean = cells.mean(axis=0)
    axes = _principal_axes(cells - mean, min(COMPONENTS, len(cells) - 1, cells.shape[1] - 1))
    return lambda block: ((block - mean) @ axes).astype(np.float64)


def _kinds(places: np.ndarray, sample: np.ndarray, kinds: int, rng: np.random.Generator) -> np.ndarray:
    """For each cell the number of its kind, of which the cells of `sample` decide: the largest kind is 0."""
    if kinds < 2 or not places.size:
        return np.zeros(len(places), np.int64)
    return vq(places, _largest_first(places[sample], _k_means(places[sample], kinds, rng)))[0]


def _classes(values: np.ndarray, training: np.ndarray, most: int) -> np.ndarray:
    """For each of `values` (cell,) the number of its class, of which those of `training` have equally many cells."""
    known = values[training]
    classes = max(1, min(most, len(known) // CELLS_FOR_EACH))
    edges = np.unique(np.quantile(known, np.arange(1, classes) / classes, method="lower"))
    return np.searchsorted(edges[edges < known.max()], values)


def _principal_axes(centred: np.ndarray, components: int) -> np.ndarray:
    """(gene, component): unit vectors along which `centred` (cell, gene) varies most; fewer where it does not vary."""
    cells, genes = centred.shape
    if components < 1:
        return np.zeros((genes, 0), centred.dtype)
    gram = centred.T @ centred if genes <= cells else centred @ centred.T
    values, vectors = eigh(gram, subset_by_index=[len(gram) - components, len(gram) - 1])
    kept = values > 1e-6 * max(values[-1], 1e-30)
    vectors = vectors[:, kept] if genes <= cells else centred.T @ vectors[:, kept]
    return (vectors / np.linalg.norm(vectors, axis=0))[:, ::-1]


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
