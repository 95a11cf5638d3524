"""The response to a perturbation: its two definitions, what is chosen, and the command."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.fidelity import generators, response
from benchmarks.fidelity.cell_sets import CellSet, Source
from benchmarks.peers import Made
from scrdit_jax.errors import BadConfig, BadInput

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def cells(labelled_cells, tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("response") / "labelled.h5ad"
    labelled_cells.write_h5ad(path)
    return CellSet.read(Source(str(path), "cell_type"), tiny_config.data, "both", multiple_of=4)


def test_changes_are_those_of_the_means():
    cells = np.log1p(np.array([[3, 0, 1], [1, 0, 1], [7, 2, 1], [9, 0, 0]], np.float32))
    conditions = np.array(["ctrl", "ctrl", "stim", "other"])
    found = response.Contrast("stim", "ctrl").changes(cells, conditions)
    np.testing.assert_allclose(found[response.LOGS], np.log([8 / np.sqrt(8), 3, 1]), rtol=1e-6)
    np.testing.assert_allclose(found[response.MEANS], np.log2([8 / 3, 3, 1]), rtol=1e-6)
    with pytest.raises(BadInput, match="no cells of 'stim'"):
        response.Contrast("stim", "ctrl").changes(cells[:2], conditions[:2])


def test_conditions_are_named_or_clear():
    assert response.Contrast.of(["stim", "ctrl"], None, None) == response.Contrast("stim", "ctrl")
    assert response.Contrast.of(["stim", "ctrl"], "stim", None) == response.Contrast("ctrl", "stim")
    assert response.Contrast.of(["stim", "ctrl"], None, "ctrl") == response.Contrast("ctrl", "stim")
    assert response.Contrast.of(["a", "b", "c"], "c", "a") == response.Contrast("a", "c")
    for names, control, treated, message in (
        (["a", "b", "c"], "a", None, "name two conditions, --control and --treated, of a, b, c"),
        (["a"], None, None, "name two conditions"),
        (["a", "b"], "x", None, "no condition 'x'; there are a, b"),
        (["a", "b"], "a", "a", "are both 'a'"),
    ):
        with pytest.raises(BadConfig, match=message):
            response.Contrast.of(names, control, treated)


def test_cells_that_do_not_respond_have_no_correlation(cells, monkeypatch):
    monkeypatch.setattr(response, "MOST_CHANGED", 10)
    measured = response.Response(cells, response.Contrast("T cell", "B cell"))
    assert len(measured.most_changed(response.LOGS)) == 10
    real = generators.controls()[0].make(cells, 50, 0)
    whole = measured.score(real)
    deaf = measured.score(Made(real.cells, np.random.default_rng(0).permutation(real.types)))
    for definition in response.DEFINITIONS:
        assert whole[definition]["r"] > 0.9
        assert whole[definition]["r_chosen_on_held_out"] > 0.9
        assert deaf[definition]["r"] < 0.6
        assert deaf[definition]["error"] > 3 * whole[definition]["error"]
    # Chosen by the training cells, whatever the held-out ones say.
    changes = np.abs(measured.training[response.LOGS])
    assert set(measured.most_changed(response.LOGS)) == set(np.argsort(changes)[-10:])


def test_a_peer_is_fitted_within_each_condition(cells):
    seen = []

    def make(of, count, seed):
        seen.append(set(of.training_types))
        return Made(of.training[np.zeros(count, int)])

    made = response.within(generators.Generator("first", {}, make)).make(cells, 40, 0)
    assert seen == [{"B cell"}, {"T cell"}]
    for name in ("B cell", "T cell"):
        first = cells.training[np.flatnonzero(cells.training_types == name)[0]]
        assert (made.cells[made.types == name] == first).all()


def test_the_command(labelled_run, labelled_cells, tmp_path, monkeypatch):
    monkeypatch.setattr(response, "MOST_CHANGED", 10)
    labelled_cells.write_h5ad(tmp_path / "cells.h5ad")
    words = [labelled_run.path, "--data", tmp_path / "cells.h5ad", "--column", "cell_type", "--on", "both"]
    words += ["--cells", 40, "--seeds", 2, "--out", tmp_path / "out"]
    result = CliRunner().invoke(response.main, list(map(str, words)))
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "response.json").read_text())
    assert (found["treated"], found["control"]) == ("T cell", "B cell")
    assert list(found["rows"]) == ["labelled", "real vs real", "copula", "knn-bootstrap-16"]
    assert [len(rows) for rows in found["rows"].values()] == [2] * 4
    assert found["rows"]["real vs real"][0]["mean logs"]["r"] > 0.9
    changes = found["rows"]["copula"][1]["mean counts"]["changes"]
    assert list(changes) == found["shown"]
    text = (tmp_path / "out" / "response.md").read_text()
    assert text.index("| labelled |") < text.index("| *real vs real* |")
    assert f"| {found['shown'][0]} |" in text
    assert (tmp_path / "out" / "response.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_user_gets_wrong_is_one_line(tiny_run, labelled_run, labelled_cells, tmp_path):
    path = str(tmp_path / "cells.h5ad")
    labelled_cells.write_h5ad(path)
    for run, words, message in (
        (tiny_run, ("--column", "cell_type"), "is not conditioned on 'cell_type'; train it with --condition-on"),
        (labelled_run, ("--column", "donor", "--control", "d9"), "no condition 'd9'; there are d1, d2"),
        (labelled_run, ("--column", "donor", "--gene", "ISG15"), "has no gene 'ISG15'"),
    ):
        words = [str(run.path), "--data", path, *words, "--on", "both", "--out", str(tmp_path / "out")]
        result = CliRunner().invoke(response.main, words)
        assert result.exit_code == 2, result.output
        assert message in result.output
        assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
