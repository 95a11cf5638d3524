"""Made-up atlases: as many cells as are asked for x 20,000 genes, in files on the disk, from the embedded PBMC 3k.

    python -m benchmarks.speed.atlas_cells --out FOLDER --cells 1000000

A cell is two real cells of one type mixed: of each count of the first a binomial share w is kept, of the second 1 - w.
Genes that PBMC 3k lacks are its own genes permuted among the cells. About 1,300 values a cell are stored, uncompressed.
"""

from __future__ import annotations

from pathlib import Path

import anndata
import click
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from scrdit_jax.io.reading import embedded_pbmc3k

GENES, FILES, ROWS = 20_000, 4, 5_000
# Categories of a column that are in every file, and donors, of which each file has its own.
SHARED = {"tissue": 24, "assay": 5}
DONORS_A_FILE = 25


def write_atlas(folder: Path, cells: int, files: int = FILES, genes: int = GENES) -> list[Path]:
    """Write the files, one after another, a block of cells in memory at a time; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    real = embedded_pbmc3k()
    types = real.obs["cell_type"].cat.codes.to_numpy()
    counts = _with_more_genes(sparse.csr_matrix(real.X), genes)
    names = [*real.var_names[:genes], *(f"MADE-UP-{j}" for j in range(genes - real.n_vars))]
    paths = []
    for number, some in enumerate(np.array_split(np.arange(cells), files)):
        random = np.random.default_rng([cells, number])
        first, second, obs = _drawn(random, len(some), types, real.obs["cell_type"].cat.categories, number)
        paths.append(folder / f"part_{number}.h5ad")
        with h5py.File(paths[-1], "w") as file:
            anndata.io.write_elem(file, "/", anndata.AnnData(obs=obs, var=pd.DataFrame(index=names)))
            empty = sparse.csr_matrix((0, genes), dtype=np.float32)
            empty.indptr = empty.indptr.astype(np.int64)
            anndata.io.write_elem(file, "X", empty, dataset_kwargs={"chunks": (1 << 16,)})
            matrix = anndata.io.sparse_dataset(file["X"])
            for start in range(0, len(some), ROWS):
                here = slice(start, start + ROWS)
                matrix.append(_mixed(random, counts[first[here]], counts[second[here]]))
    return paths


def _with_more_genes(counts: sparse.csr_matrix, genes: int) -> sparse.csr_matrix:
    """`counts` (cell, gene) with as many genes as wanted, those too many being some of them, permuted."""
    more = genes - counts.shape[1]
    if more <= 0:
        return counts[:, :genes].tocsr()
    random = np.random.default_rng(0)
    copied = sparse.coo_matrix(counts[:, random.permutation(counts.shape[1])[:more]])
    rows = (copied.row + random.integers(0, counts.shape[0], more)[copied.col]) % counts.shape[0]
    made_up = sparse.csr_matrix((copied.data, (rows, copied.col)), shape=copied.shape)
    return sparse.hstack([counts, made_up], format="csr")


def _drawn(
    random: np.random.Generator, cells: int, types: np.ndarray, names: pd.Index, number: int
) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Which two real cells each cell of file `number` is made of, and the table of the cells."""
    first = random.integers(0, len(types), cells)
    by_type = np.argsort(types, kind="stable")
    starts = np.searchsorted(types[by_type], np.arange(len(names) + 1))
    low, high = starts[types[first]], starts[types[first] + 1]
    second = by_type[low + (random.random(cells) * (high - low)).astype(np.int64)]
    obs = pd.DataFrame(index=[f"cell_{i}" for i in range(cells)])
    obs["cell_type"] = pd.Categorical.from_codes(types[first], categories=names)
    for column, size in SHARED.items():
        obs[column] = pd.Categorical.from_codes(
            random.integers(0, size, cells), categories=[f"{column}_{i}" for i in range(size)]
        )
    donors = [f"donor_{number * DONORS_A_FILE + i}" for i in range(DONORS_A_FILE)]
    obs["donor"] = pd.Categorical.from_codes(random.integers(0, DONORS_A_FILE, cells), categories=donors)
    return first, second, obs


def _mixed(random: np.random.Generator, first: sparse.csr_matrix, second: sparse.csr_matrix) -> sparse.csr_matrix:
    """Counts (cell, gene) float32: of those of two cells binomial shares w and 1 - w, w of each row its own."""
    shares = random.uniform(0.2, 0.8, first.shape[0])
    for cells, share in ((first, shares), (second, 1 - shares)):
        cells.data = random.binomial(cells.data.astype(np.int64), np.repeat(share, np.diff(cells.indptr)))
    mixed = sparse.csr_matrix(first + second, dtype=np.float32)
    mixed.eliminate_zeros()
    return mixed


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--cells", default=1_000_000, show_default=True)
def main(out: Path, cells: int) -> None:
    """Write the files."""
    for path in write_atlas(out, cells):
        click.echo(f"{path}: {path.stat().st_size / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
