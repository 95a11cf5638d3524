import io

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from scrdit_jax.evaluation import plots


def pixels(png):
    return matplotlib.image.imread(io.BytesIO(png))


def holds(png, colour, tolerance=0.02):
    """Whether some pixel has that colour, as itself."""
    wanted = np.array(matplotlib.colors.to_rgb(colour))
    return bool((np.abs(pixels(png)[..., :3] - wanted).max(axis=-1) < tolerance).any())


@pytest.fixture
def sides(real, synthetic):
    return real.X.toarray()[:60], synthetic.X.toarray()[:60]


def test_tsne_shows_both_sides_and_many_types(sides):
    types = [f"type {i % 11}" for i in range(60)]
    picture = plots.tsne(*sides, cell_types=types)
    assert pixels(picture).shape == (250, 600, 4)
    for colour in (plots.REAL, plots.SYNTHETIC, *plots.TYPE_COLOURS):
        assert holds(picture, colour)


@pytest.mark.parametrize("draw", [plots.violins, plots.gene_means, plots.library_sizes])
def test_pictures_are_drawn(draw, sides):
    picture = draw(*sides)
    height, width, _ = pixels(picture).shape
    assert 400 < width < 500
    assert 180 < height < 260
    assert picture == draw(*sides)


@pytest.mark.parametrize("draw", [plots.violins, plots.gene_means, plots.library_sizes])
def test_degenerate_cells_are_drawn_all_the_same(draw, sides):
    assert pixels(draw(sides[0], np.zeros_like(sides[1]))).size
    assert pixels(draw(sides[0], np.ones_like(sides[1]))).size


def test_no_global_state(sides):
    backend = matplotlib.get_backend()
    plots.gene_means(*sides)
    assert matplotlib.get_backend() == backend


def test_awkward_type_names():
    assert plots._shorten("_hidden $x$") == r"hidden \$x\$"
    assert len(plots._shorten("x" * 50)) == 26
