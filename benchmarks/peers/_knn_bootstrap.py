"""The kNN bootstrap: every gene of a new cell from a random one of the nearest neighbours of a random training cell.

It costs nothing, and it is level with good generators in every score but novelty: its values are training cells'. With
few neighbours cells are sharper and nearer to copies. The peers "knn-bootstrap-4" and "knn-bootstrap-16".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.peers import Made, Peer, fit_and_draw
from scrdit_jax.extras import optional

if TYPE_CHECKING:
    from benchmarks.fidelity.cell_sets import CellSet

# With 50, neighbours are nearer to the middle and the cells worse: PCA-50 MMD 0.033 on PBMC 3k, 0.023 with these.
COMPONENTS = 20


@dataclass(frozen=True)
class KnnBootstrap:
    """Training cells (cell, gene) and the rows of each one's nearest neighbours, itself first, (cell, neighbour)."""

    cells: np.ndarray
    neighbours: np.ndarray

    @classmethod
    def fit(cls, cells: np.ndarray, *, neighbours: int) -> KnnBootstrap:
        """Find the neighbours in the first 20 principal components of the cells; all of them where there are fewer."""
        components = min(COMPONENTS, len(cells) - 1, cells.shape[1])
        pca = optional("sklearn.decomposition").PCA(components, svd_solver="randomized", random_state=0)
        scores = pca.fit_transform(cells)
        search = optional("sklearn.neighbors").NearestNeighbors(n_neighbors=min(neighbours, len(cells))).fit(scores)
        return cls(cells, search.kneighbors(scores, return_distance=False))

    def draw(self, count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(`count` new cells (cell, gene), the row of the training cell that each was made around)."""
        rng = np.random.default_rng([seed, 10])
        genes = np.arange(self.cells.shape[1])
        centres = rng.integers(len(self.cells), size=count)
        made = np.empty((count, len(genes)), self.cells.dtype)
        for row, centre in enumerate(centres):
            chosen = rng.integers(self.neighbours.shape[1], size=len(genes))
            made[row] = self.cells[self.neighbours[centre, chosen], genes]
        return made, centres


def knn_bootstrap(neighbours: int) -> Peer:
    """The peer; its cells have the type of the training cell that each was made around, where those have types."""

    def make(cells: CellSet, count: int, seed: int) -> Made:
        def draw(fitted: KnnBootstrap) -> tuple[np.ndarray, np.ndarray | None]:
            made, centres = fitted.draw(count, seed=seed)
            return made, None if cells.training_types is None else cells.training_types[centres]

        return fit_and_draw(lambda: KnnBootstrap.fit(cells.training, neighbours=neighbours), draw, count)

    return Peer(make=make, settings={"neighbours": neighbours, "components": COMPONENTS})
