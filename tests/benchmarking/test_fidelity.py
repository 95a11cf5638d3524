"""Several generators on a tiny data set: what is measured, that it goes on, and what is refused."""

import json
from dataclasses import replace
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse

from benchmarks.fidelity import __main__ as fidelity
from benchmarks.fidelity import comparing, conditioning, figures, generators, novelty
from benchmarks.fidelity.cell_sets import CellSet, ScoredGenes, Source
from benchmarks.peers import Skipped
from scrdit_jax.config import DataConfig
from scrdit_jax.evaluation.comparison import REAL

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def folder(tiny_config, tiny_cells, labelled_cells, tmp_path_factory):
    """counts.h5ad and log.h5ad (the same on a log scale, without types); tiny.json (a preset); of 90 cells, tiny.h5ad
    and labelled.h5ad, which the runs of those names were trained on."""
    folder = tmp_path_factory.mktemp("fidelity")
    rng = np.random.default_rng(7)
    types = rng.integers(0, 2, size=360)
    means = rng.gamma(0.7, 3.0, size=(2, 40)) + 0.2
    counts = rng.poisson(means[types] * rng.gamma(8, 1 / 8, (360, 1))).astype(np.float32)
    obs = pd.DataFrame({"kind": np.array(["T cell", "B cell"])[types]}, index=[f"cell{i}" for i in range(360)])
    var = pd.DataFrame(index=[f"GENE{j}" for j in range(40)])
    anndata.AnnData(sparse.csr_matrix(counts), obs=obs, var=var).write_h5ad(folder / "counts.h5ad")
    logged = anndata.AnnData(sparse.csr_matrix(np.log1p(counts)), obs=obs[[]], var=var)
    logged.write_h5ad(folder / "log.h5ad")
    tiny_cells.write_h5ad(folder / "tiny.h5ad")
    labelled_cells.write_h5ad(folder / "labelled.h5ad")
    (folder / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    return folder


def call(folder, *arguments):
    return CliRunner().invoke(fidelity.main, [str(argument) for argument in arguments])


@pytest.mark.slow
def test_it_measures_every_row_once_and_goes_on(folder, tiny_run, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(comparing, "ENOUGH_TRAINING", 20)
    arguments = (
        *("--data", folder / "tiny.h5ad", "--data", folder / "log.h5ad", "--run", tiny_run.path, "--on", "both"),
        *("--peer", "copula", "--seeds", 2, "--novelty", 60, "--out", out),
    )
    scored, stop_at = [], 5
    score_cells = comparing.score_cells

    def score_until_stopped(*given):
        scored.append(given[0])
        if len(scored) == stop_at:
            raise KeyboardInterrupt
        return score_cells(*given)

    monkeypatch.setattr(comparing, "score_cells", score_until_stopped)
    assert call(folder, *arguments).exit_code != 0
    assert scored == ["real vs real", "real vs real", "genes shuffled", "genes shuffled", "copula"]
    stop_at = None
    result = call(folder, *arguments)
    assert result.exit_code == 0, result.output
    names = ["real vs real", "genes shuffled", "copula", "tiny"]
    assert scored[5:] == [name for name in names[2:] + names[:-1] for _ in range(2)]  # those that were missing

    found = json.loads((out / "results.json").read_text())
    assert [(row["data"], row["generator"], row["seed"]) for row in found["rows"]] == [
        *[("tiny", name, seed) for name in names for seed in (0, 1)],
        *[("log", name, seed) for name in names[:-1] for seed in (0, 1)],
    ]
    assert [(one["data"], one["generator"]) for one in found["skipped"]] == [("log", "tiny")]
    assert found["skipped"][0]["reason"].startswith("was trained on other cells")
    rows = {(row["data"], row["generator"]): row for row in found["rows"]}
    for row in found["rows"]:
        # Of as few genes and cells there are no narrower components.
        missing = {name for name, value in row["whole"].items() if value is None or not np.isfinite(value)}
        assert missing <= {"variance_pcs_16_30", "variance_pcs_31_50"}
        assert row["cells"] == next(s["reference"] for s in found["sets"] if s["name"] == row["data"])
    own, classified = rows["tiny", "copula"], rows["tiny", "tiny"]
    assert (own["types_by"], classified["types_by"]) == ("generator", "classifier")
    assert set(own["types"]) == {"B cell", "T cell"}
    assert own["markers"]["error"] < rows["tiny", "genes shuffled"]["markers"]["error"] + 0.5
    assert rows["log", "copula"]["types"] == {}
    assert rows["log", "copula"]["markers"] is None
    assert own["fit_seconds"] > 0
    assert classified["fit_seconds"] > 0
    assert own["cells_per_second"] > 0
    assert rows["tiny", "real vs real"]["memorisation"]["copied"] is None
    new = {key: row["novelty"] for key, row in rows.items()}
    assert new["tiny", "real vs real"]["auc"]["plain"]["mean"] > 0.9  # the training cells themselves
    assert all(one["coverage"].keys() == {str(one["released"])} for one in new.values())
    assert new["tiny", "copula"]["released"] == new["tiny", "tiny"]["released"] == 60
    text = (out / "table.md").read_text()
    assert text.count("### Novelty") == 2
    assert all(part in text for part in ("## tiny", "## log", "| tiny † |", "skipped: was trained", "T cell"))
    for picture in ("bars", "tsne", "marginals"):
        for name in ("tiny", "log"):
            assert (out / f"{picture}-{name}.png").read_bytes().startswith(b"\x89PNG")


def test_rows_of_another_recipe_are_not_taken_for_this_one(folder, tmp_path, tiny_config, trained, monkeypatch):
    monkeypatch.setattr(figures, "pictures", lambda *given: {})
    preset, out = tmp_path / "mine.json", tmp_path / "out"
    words = ("--no-peers", "--seeds", 1, "--novelty", 0, "--out", out)
    common = ("--data", f"{folder}/counts.h5ad:kind", "--preset", preset, *words)
    preset.write_text(json.dumps(tiny_config.to_dict()))
    assert call(folder, *common).exit_code == 0
    preset.write_text(json.dumps(tiny_config.with_settings({"learning_rate": 0.001}).to_dict()))
    refused = call(folder, *common)
    assert refused.exit_code == 2
    assert "is another one (made_by.settings.training.learning_rate 0.002, not 0.001)" in refused.output
    # The same with fewer evaluations, or on timesteps fitted to it, is another row, from the same training.
    preset.write_text(json.dumps(tiny_config.to_dict()))
    for sampler, name in (("distributional:5", "5 evaluations"), ("unipc:5:fit", "unipc, 5 evaluations, fit")):
        result = call(folder, *common, "--sampler", sampler)
        assert result.exit_code == 0
        assert name in result.output
    result = call(folder, *common, "--dtype", "float32", "--dtype", "bfloat16")
    assert "| mine, bfloat16 |" in result.output.partition("Differences from mine, float32, seed by seed")[2]
    kept = json.loads((out / "rows.json").read_text())
    assert '"dtype": "bfloat16"' in json.dumps(kept)
    assert len(set(trained)) == 1


@pytest.mark.slow
def test_a_preset_is_trained_and_sampled_as_the_command_says(folder, tmp_path, tiny_config):
    cells = CellSet.read(Source(f"{folder}/tiny.h5ad"), tiny_config.data, "both", multiple_of=4)
    config = tiny_config.with_settings({"evaluate_every": 1, "steps": 2})
    made = {}
    for text in ("unipc:3", "unipc:3:fit"):
        sampler = generators.Sampler.parse(text)
        generator = generators.ours_from_preset("mine", config, tmp_path, sampler.options)
        made[text] = generator.make(cells, 8, 0)
        assert made[text].cells.shape == (8, 24)
        assert made[text].fit_seconds > 0
    assert len(list(tmp_path.iterdir())) == 1  # the samplers share the training
    assert not list(tmp_path.rglob("evaluations.jsonl"))  # which no held-out cell has a part in
    assert (made["unipc:3"].cells != made["unipc:3:fit"].cells).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "nowhere.h5ad"), "nowhere.h5ad"),
        (("--preset", "nothing"), "no preset 'nothing'"),
        (("--run", "nowhere"), "give a folder made by 'scrdit train'"),
        (("--data", "counts.h5ad:colour"), "no column 'colour'"),
        (("--data", "counts.h5ad:kind", "--data", "log.h5ad", "--data", "counts.h5ad"), "two data sets are called"),
        (("--peer", "copula", "--no-peers"), "exclude each other"),
        (("--peer", "gan"), "no peer 'gan'; there are copula, knn-bootstrap-16, knn-bootstrap-4, scvi, scvi-prior"),
        (("--sampler", "distributional:0"), "steps is 0; it must be"),
        (("--sampler", "euler"), "no solver 'euler'"),
        (("--sampler", "unipc:fit"), "'fit' is no number of evaluations; write e.g. unipc:10"),
        (("--sampler", "ddim:50"), "50 steps are not within 2..20"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(folder, tmp_path, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    preset = () if "--run" in arguments else ("--preset", "tiny.json")
    result = call(folder, *preset, *arguments, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def sides(folder, tiny_config):
    return [
        CellSet.read(Source(f"{folder}/counts.h5ad", "kind"), tiny_config.data, side, multiple_of=4)
        for side in ("validation", "test")
    ]


def test_validation_and_test_cells_share_the_held_out_ones_and_nothing_else(sides):
    validation, test = sides
    rows = [{cell.tobytes() for cell in cells.reference} for cells in sides]
    held_out = validation.prepared.held_out.X.toarray()
    assert not rows[0] & rows[1]
    assert rows[0] | rows[1] == {cell.tobytes() for cell in held_out}
    assert len(validation.reference) + len(test.reference) == len(held_out)
    assert 0.3 < len(validation.reference) / len(held_out) < 0.7
    for cells in sides:
        assert not rows[0] & {cell.tobytes() for cell in cells.training}


def test_both_are_all_held_out_cells(sides, folder, tiny_config):
    both = CellSet.read(Source(f"{folder}/counts.h5ad", "kind"), tiny_config.data, "both", multiple_of=4)
    expected = sorted(cell.tobytes() for cells in sides for cell in cells.reference)
    assert sorted(cell.tobytes() for cell in both.reference) == expected


def test_counts_of_the_training_cells_are_those_of_the_file(sides, folder):
    counts, library = sides[0].training_counts
    names = sides[0].prepared.train.obs_names
    whole = anndata.read_h5ad(folder / "counts.h5ad")
    np.testing.assert_array_equal(library, whole[names].X.sum(axis=1).A1)
    values = np.log1p(counts.toarray() * (10_000 / library)[:, None])
    np.testing.assert_allclose(values, sides[0].training, rtol=1e-5)


def test_a_model_that_is_conditioned_on_the_types_gives_them_and_in_no_order(folder, tiny_config, labelled_run):
    cells = CellSet.read(Source(f"{folder}/labelled.h5ad"), tiny_config.data, "both", multiple_of=4)
    made = generators.ours_from_run("labelled", labelled_run.path, {}).make(cells, 60, 0)
    assert made.cells.shape == (60, 24)
    assert set(made.types) == {"B cell", "T cell"}
    changes = np.count_nonzero(made.types[1:] != made.types[:-1])
    assert changes > 10  # as they come from the model: one
    assert made.fit_seconds > 0


def test_a_copier_is_told_from_new_cells(sides):
    cells = sides[0]
    copies = comparing.memorisation(cells.space.project(cells.training[:60]), cells, 0)
    floor = comparing.memorisation(None, cells, 0)
    assert copies["copied"] == 1
    assert floor["copied"] is None
    assert floor["held_out_copied"] < 0.2
    assert copies["nearest_is_training"] > floor["held_out_nearest_is_training"]


def test_reference_cells_have_no_part_in_the_components(sides, folder, tiny_config):
    validation, test = (cells.space.components.pca.components_ for cells in sides)
    np.testing.assert_array_equal(validation, test)


def test_a_type_that_is_left_out_costs_its_markers(sides):
    cells = sides[0]
    real, _ = generators.controls()
    made = real.make(cells, 150, 0)
    whole = comparing.score_cells("copy", made, cells, 0)["markers"]
    only = made.types == "T cell"
    part = replace(made, cells=made.cells[only], types=made.types[only])
    part = comparing.score_cells("part", part, cells, 0)["markers"]
    assert whole["correlation"] > 0.8 > part["correlation"]
    assert part["error"] > 3 * whole["error"]


def test_types_are_requested_and_classified_at_every_guidance(labelled_run, tmp_path, monkeypatch):
    monkeypatch.setattr(conditioning, "GUIDANCES", (1.0,))
    out, words = tmp_path / "out", ("--cells", "12", "--seeds", "1")
    result = CliRunner().invoke(conditioning.main, [str(labelled_run.path), "--out", str(out), *words])
    assert result.exit_code == 0, result.output
    found = json.loads((out / "conditioning.json").read_text())
    assert [(row["name"], row["requested"], row["generated"]) for row in found["rows"]] == [
        ("B cell", 12, 12), ("T cell", 12, 12),
    ]  # fmt: skip
    assert all(0 <= row["library_size_p"] <= 1 and 0 <= row["classified"] <= 1 for row in found["rows"])
    text = (out / "conditioning.md").read_text()
    assert "| 1 | B cell |" in text
    assert "| *real vs real* |" in text
    assert "± 0.000 |" in text


@pytest.mark.parametrize(
    ("text", "source", "name"),
    [
        ("lung.h5ad", Source("lung.h5ad"), "lung"),
        ("lung.h5ad:kind", Source("lung.h5ad", "kind"), "lung"),
        ("lung.h5ad@detected", Source("lung.h5ad", None, "detected"), "lung@detected"),
        ("a@b/lung.h5ad:kind@cv", Source("a@b/lung.h5ad", "kind", "cv"), "lung@cv"),
        ("a@b/lung.h5ad:kind@home", Source("a@b/lung.h5ad", "kind@home"), "lung"),
        ("pbmc3k@all", Source("pbmc3k", None, "all"), "pbmc3k@all"),
    ],
)
def test_a_data_set_is_a_file_with_a_column_and_a_choice_of_genes(text, source, name):
    assert Source.parse(text) == source
    assert source.name == name


def test_a_file_of_that_very_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lung@cv").touch()
    assert Source.parse("lung@cv") == Source("lung@cv")


def test_the_deep_set_has_the_genes_with_the_fewest_zeros(folder, tiny_config):
    sparse_, deep = (
        CellSet.read(Source.parse(f"{folder}/counts.h5ad:kind{choice}"), tiny_config.data, "both", multiple_of=4)
        for choice in ("", "@detected")
    )
    np.testing.assert_array_equal(sparse_.prepared.train.obs_names, deep.prepared.train.obs_names)
    whole = anndata.read_h5ad(folder / "counts.h5ad")[deep.prepared.train.obs_names].X.toarray()
    fewest = np.sort((whole == 0).mean(axis=0))[:24]
    np.testing.assert_allclose(np.sort((deep.training == 0).mean(axis=0)), fewest)
    assert (deep.training == 0).mean() < (sparse_.training == 0).mean()
    # Ours are trained on the same genes, whatever their preset says.
    ours = deep.prepared_for(tiny_config.with_settings({"gene_selection": "cv"}))
    assert list(ours.train.var_names) == list(deep.prepared.train.var_names)


def test_a_run_may_be_compared_on_cells_that_no_evaluation_saw(tiny_run, tiny_config, tmp_path):
    evaluated = tiny_config.with_settings({"evaluate_every": 1.0})
    assert generators.fair_sides(tiny_run.path, tiny_config) == ("validation", "test", "both")
    assert generators.fair_sides(tmp_path, evaluated) == ("validation",)  # it came without its log
    log = tmp_path / "evaluations.jsonl"
    log.write_text('{"step": 5, "on": "validation", "held_out_loss": 1}\n')
    assert generators.fair_sides(tmp_path, evaluated) == ("validation", "test")
    log.write_text(log.read_text() + '{"step": 9, "held_out_loss": 1}\n')  # of an earlier version, of all of them
    assert generators.fair_sides(tmp_path, evaluated) == ("validation",)


def test_a_run_that_saw_the_cells_is_skipped(folder, tiny_config, tiny_run, monkeypatch):
    monkeypatch.setattr(generators, "fair_sides", lambda path, config: ("validation", "test"))
    cells = CellSet.read(Source(f"{folder}/tiny.h5ad"), tiny_config.data, "both", multiple_of=4)
    with pytest.raises(Skipped, match=r"were scored against in its training .*compare it --on validation or test$"):
        generators.ours_from_run("seen", tiny_run.path, {}).make(cells, 8, 0)


def test_a_slow_sampler_is_not_asked_for_many_cells(sides):
    slow = generators.Generator("ddpm", {"sampling": {"steps": 1000}}, None)
    assert slow.is_slow
    assert novelty.measure_novelty(sides[0], slow, 0, 10, None) is None


def test_novelty_of_copies_and_of_shuffled_cells(sides):
    cells = sides[0]
    real, shuffled = (novelty.score_novelty(control.make(cells, 200, 0), cells, 200, 0)
                      for control in generators.controls())  # fmt: skip
    assert real["auc"]["calibrated"]["mean"] > 0.75 > shuffled["auc"]["calibrated"]["mean"]
    assert real["nearer"] == 1
    assert real["states"] == real["distinct"] == real["released"] == 200
    assert real["coverage"]["200"] > shuffled["coverage"]["200"]
    assert novelty.numbers_up_to(2102, 10_000) == [1000]
    assert novelty.numbers_up_to(20_000, 20_000) == [1000, 10_000, 20_000]


def test_cells_of_a_training_that_was_stopped_are_no_row(folder, tmp_path, monkeypatch, trained):
    """As by SIGTERM: training saves what it has and returns."""
    monkeypatch.setattr(figures, "pictures", lambda *given: {})
    train, out = generators.scrdit.train, tmp_path / "out"

    def stopped(*given, **named):
        return SimpleNamespace(**vars(train(*given, **named)) | {"stopped": "asked to stop at step 3 of 12"})

    preset = ("--preset", folder / "tiny.json", "--no-peers", "--seeds", 1, "--novelty", 0, "--out", out)
    common = ("--data", f"{folder}/counts.h5ad:kind", *preset)
    with monkeypatch.context() as patch:
        patch.setattr(generators.scrdit, "train", stopped)
        result = call(folder, *common)
    assert result.exit_code == 2
    assert "asked to stop at step 3 of 12" in result.output
    result = call(folder, *common)
    assert result.exit_code == 0
    assert len(trained) == 2


def test_bars_of_types_are_left_out_where_there_are_none():
    whole = {"random_forest_auc": 0.6, "mmd_pca": 0.02, "gene_correlation_error": 0.1}
    row = {"generator": "demo", "whole": whole, "types": {}, "markers": None}
    of_types = {"types": {"B": {"random_forest_auc": 0.6, "mmd_pca": 0.02}}, "markers": {"error": 0.1}}
    names = ("demo", "copula", "scvi", "knn-bootstrap-4", REAL)
    without, with_types = (
        figures.bars([{**one, "generator": name} for name in names]) for one in (row, {**row, **of_types})
    )
    heights = [int.from_bytes(picture[20:24], "big") for picture in (without, with_types)]  # in a PNG's header
    assert heights[0] < 0.7 * heights[1]


def test_the_same_cells_are_scored_over_several_sets_of_genes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "pictures", lambda *given: {})
    made, scored = [], []

    def make(cells, count, seed):
        made.append((cells.name, count, seed))
        return generators.controls()[0].make(cells, count, seed)

    score_cells = comparing.score_cells
    monkeypatch.setattr(fidelity, "controls", lambda: [generators.Generator("mine", {}, make)])
    monkeypatch.setattr(comparing, "score_cells", lambda *given: scored.append(given) or score_cells(*given))
    words = ("--data", f"{folder}/counts.h5ad:kind", "--preset", folder / "tiny.json", "--no-peers", "--seeds", 2)
    words += ("--scored-genes", "all", "--scored-genes", "hvg:10", "--on", "both", "--out", tmp_path / "out")
    monkeypatch.setattr(fidelity, "ours_from_preset", lambda *given: generators.Generator("none", {}, make))
    result = call(folder, *words, "--novelty", 60)
    assert result.exit_code == 0, result.output
    whole, part = scored[0], scored[1]
    np.testing.assert_array_equal(whole[1].cells[:, part[2].columns], part[1].cells)
    assert (whole[1].cells.shape[1], part[1].cells.shape[1]) == (24, 10)
    assert part[2].reference.shape == (len(whole[2].reference), 10)
    # Once for the scores and once for novelty, of every generator and seed, whatever is scored.
    counts = [count for _, count, _ in made]
    assert counts == [2 * len(whole[2].reference), 60] * 4
    assert {name for name, _, _ in made} == {"counts"}
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(one["name"], one["genes"]) for one in found["sets"]] == [("counts", 24), ("counts, hvg:10", 10)]
    assert {(row["data"], row["made_by"].get("scored")) for row in found["rows"]} == {
        ("counts", None), ("counts, hvg:10", "hvg:10"),
    }  # fmt: skip
    assert "## counts, hvg:10: " in (tmp_path / "out" / "table.md").read_text()


def test_scored_genes_are_those_that_a_model_of_so_many_would_have(folder, tiny_config):
    every = tiny_config.with_settings({"gene_selection": "all", "min_cells": 3}).data
    cells = CellSet.read(Source(f"{folder}/counts.h5ad", "kind"), every, "both", multiple_of=4)
    fewer = DataConfig(gene_selection="hvg", genes=12, held_out=every.held_out)
    model = CellSet.read(Source(f"{folder}/counts.h5ad", "kind"), fewer, "both", multiple_of=4)
    view = cells.on(ScoredGenes.parse("hvg:12"))
    assert list(view.genes) == list(model.genes)
    np.testing.assert_array_equal(view.reference, model.reference)
    assert view.training.shape[1] == 12 < cells.training.shape[1] == 40
    assert cells.on(ScoredGenes.parse("all")) is cells


def test_genes_to_score_are_refused_in_a_line(folder, tmp_path):
    words = ("--data", folder / "counts.h5ad", "--preset", folder / "tiny.json", "--out", tmp_path / "out")
    for text, message in (
        ("hvg", "write all, or one of hvg, cv, detected and how many, as hvg:2000"),
        ("all:30", "write all, or one of"),
        ("hvg:0", "write all, or one of"),
        ("hvg:2000", "but 2000 were asked for"),
    ):
        result = call(folder, *words, "--scored-genes", text)
        assert result.exit_code == 2
        assert message in result.output
        assert len(result.output.strip().splitlines()) == 1
    assert "twice" in call(folder, *words, "--scored-genes", "all", "--scored-genes", "all").output
    assert not (tmp_path / "out").exists()


def test_cells_of_ours_have_the_genes_of_the_compared_cells_in_their_order(folder, tiny_config, tiny_run, monkeypatch):
    cells = CellSet.read(Source(f"{folder}/tiny.h5ad"), tiny_config.data, "both", multiple_of=4)
    ours = generators.ours_from_run("tiny", tiny_run.path, {})
    plain = ours.make(cells, 8, 0).cells
    sample = generators.scrdit.sample

    def turned(*given, **named):
        made = sample(*given, **named)
        return made[:, made.var_names[::-1]].copy()

    monkeypatch.setattr(generators.scrdit, "sample", turned)
    np.testing.assert_array_equal(ours.make(cells, 8, 0).cells, plain)
    # A run whose network takes the same genes in another order is compared.
    model = generators.load(tiny_run.path)
    other = replace(model, metadata=replace(model.metadata, genes=model.metadata.genes[::-1]))
    generators.check_comparable(cells, tiny_run.path, other)
    fewer = replace(model, metadata=replace(model.metadata, genes=model.metadata.genes[1:]))
    with pytest.raises(Skipped, match="other genes"):
        generators.check_comparable(cells, tiny_run.path, fewer)
