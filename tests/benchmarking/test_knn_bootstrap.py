import numpy as np

from benchmarks.peers._knn_bootstrap import KnnBootstrap


def two_clouds(rows=40, genes=12):
    """Cells of two types far apart; every value of every gene is another number, so that it says whose it is."""
    rng = np.random.default_rng(0)
    cells = rng.random((2 * rows, genes)).astype(np.float32)
    cells[rows:] += 100
    assert all(len(set(column)) == len(cells) for column in cells.T)
    return cells


def test_every_gene_is_that_of_a_neighbour_of_one_training_cell():
    cells = two_clouds()
    bootstrap = KnnBootstrap.fit(cells, neighbours=5)
    made, centres = bootstrap.draw(200, seed=0)
    for cell, centre in zip(made, centres, strict=True):
        donors = [int(np.flatnonzero(cells[:, gene] == value)[0]) for gene, value in enumerate(cell)]
        assert set(donors) <= set(bootstrap.neighbours[centre])
        assert len({donor < 40 for donor in donors}) == 1  # of one type
    assert len(set(centres)) > 60
    assert not {cell.tobytes() for cell in made} & {cell.tobytes() for cell in cells}


def test_neighbours_are_the_nearest_training_cells_and_the_cell_itself():
    cells = two_clouds()
    # Twelve genes have twelve components: distances are those of the genes.
    distances = np.linalg.norm(cells[:, None].astype(np.float64) - cells, axis=2)
    expected = np.argsort(distances, axis=1)[:, :5]
    found = KnnBootstrap.fit(cells, neighbours=5).neighbours
    assert (found[:, 0] == np.arange(80)).all()
    assert all(set(a) == set(b) for a, b in zip(found, expected, strict=True))


def test_one_neighbour_copies_and_fewer_cells_than_neighbours_are_all_used():
    cells = two_clouds()
    made, centres = KnnBootstrap.fit(cells, neighbours=1).draw(30, seed=1)
    np.testing.assert_array_equal(made, cells[centres])
    assert KnnBootstrap.fit(cells[:6], neighbours=16).neighbours.shape == (6, 6)


def test_a_seed_gives_the_same_cells_again():
    bootstrap = KnnBootstrap.fit(two_clouds(), neighbours=16)
    first, again, other = (bootstrap.draw(9, seed=seed)[0] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
