"""What the page draws is what the cells are."""

import json
import re

import numpy as np
import pytest

from scrdit_jax.evaluation import charts, metrics
from scrdit_jax.evaluation.charts import Shown


def shown(types=None, genes=60, **more):
    rng = np.random.default_rng(0)
    real, synthetic = (np.maximum(rng.normal(1, 1, (40, genes)), 0).astype(np.float32) for _ in range(2))
    names = [f"s{i}" for i in range(40)]
    return Shown(
        points=rng.normal(size=(80, 2)), real=real, synthetic=synthetic, genes=[f"G{j}" for j in range(genes)],
        names=names, types=types, **more,
    )  # fmt: skip


def dots_of(path):
    return [tuple(map(float, dot)) for dot in re.findall(r"M([\d.]+) ([\d.]+)h0", path)]


@pytest.fixture
def typed():
    types = np.array((["A"] * 25 + ["B"] * 15) * 2)
    return shown(types, transferred=np.array(["A"] * 39 + ["C"]), given=True)


def test_every_cell_is_one_dot_of_its_side_and_type(typed):
    found = charts.charts(typed)
    cells, data = found["cells"], found["cells"]["data"]
    assert found["types"] == ["A", "B", "C"]
    assert cells["counts"] == [[25, 25], [15, 15], [0, 0]]
    drawn = sorted((p["side"], p["type"], *dot) for p in cells["paths"] for dot in dots_of(p["d"]))
    said = zip(data["side"], data["type"], data["x"], data["y"], strict=True)
    assert drawn == sorted(said)
    assert data["looks"][-1] == 2
    # Upwards on the page is upwards in the picture, both axes on one scale.
    x, y = np.array(data["x"]), np.array(data["y"])
    for axis, sign in ((x, 1), (y, -1)):
        assert 0 <= axis.min() <= axis.max() <= charts.MAP
        np.testing.assert_allclose(np.corrcoef(axis, sign * typed.points[:, 0 if sign > 0 else 1])[0, 1], 1, atol=1e-4)
    assert (x[0] - x[1]) / (y[1] - y[0]) == pytest.approx(
        (typed.points[0, 0] - typed.points[1, 0]) / (typed.points[0, 1] - typed.points[1, 1]), rel=0.05
    )


def test_genes_are_drawn_where_their_means_are(typed):
    panels = charts.charts(typed)["genes"]
    data = panels["data"]
    np.testing.assert_allclose(data["means"][1], metrics.gene_means(typed.synthetic), atol=6e-4)
    place = data["places"][0]
    assert list(np.argsort(place["x"])) == list(np.argsort(metrics.gene_means(typed.real)))
    assert dots_of(panels["panels"][0]["d"]) == list(zip(place["x"], place["y"], strict=True))
    # Where both sides agree, the dot is on the dashed line from corner to corner.
    same = charts.gene_panels(Shown(**{**vars(typed), "synthetic": typed.real}), ["A", "B"])["data"]["places"][0]
    for x, y in zip(same["x"], same["y"], strict=True):
        assert x - charts.LEFT == pytest.approx(charts.SIZE - charts.BOTTOM - y, abs=0.01)
        assert y >= charts.TOP


def test_no_more_genes_are_drawn_than_the_highest(monkeypatch, typed):
    monkeypatch.setattr(charts, "MOST_GENES", 10)
    found = charts.charts(typed)["genes"]
    assert (found["drawn"], found["there"]) == (10, 60)
    highest = np.argsort(-np.maximum(*map(metrics.gene_means, (typed.real, typed.synthetic))))[:10]
    assert set(found["data"]["names"]) == {f"G{j}" for j in highest}
    assert all(0 <= place < 10 for places in found["data"]["markers"].values() for place in places)


def test_bars_are_shares_of_either_side():
    found = charts.histogram(np.array([0, 0, 0, 1.0]), np.array([0, 1.0]))
    real, synthetic = found["data"]["shares"]
    assert (real[0], real[-1], synthetic[0], synthetic[-1]) == (75, 25, 50, 50)
    assert sum(real) == pytest.approx(100)
    assert len(found["data"]["edges"]) == len(real) + 1


def test_without_types_and_with_constant_cells_everything_is_still_drawn():
    found = charts.charts(shown())
    assert found["types"] == []
    assert {path["type"] for path in found["cells"]["paths"]} == {0}
    flat = shown()
    same = np.ones_like(flat.real)
    found = charts.charts(Shown(**{**vars(flat), "real": same, "synthetic": same, "points": np.zeros((80, 2))}))
    json.dumps(found, allow_nan=False)
