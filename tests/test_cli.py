"""The command line end to end on small cells, and every mistake a user can make: one line, exit status 2."""

import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from scrdit_jax.cli import main
from scrdit_jax.cli.main import terminable
from scrdit_jax.provenance import Provenance
from tests import tenx


@pytest.fixture(scope="session")
def preset(tiny_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("preset") / "tiny.json"
    path.write_text(json.dumps(tiny_config.with_settings({"steps": 2}).to_dict()))
    return path


@pytest.fixture(scope="session")
def cells_h5ad(tiny_cells, tmp_path_factory):
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    tiny_cells.write_h5ad(path)
    return path


WRITERS = {  # but for .h5ad, which all other tests read
    "cells.zarr": lambda cells, path: cells.write_zarr(path),
    "cells.h5": tenx.write_h5,
    "folder": lambda cells, path: tenx.write_folder(cells, path, ".gz"),
    "cells.csv": lambda cells, path: cells.to_df().to_csv(path),
    "cells.tsv.gz": lambda cells, path: cells.to_df().to_csv(path, sep="\t"),
    "cells.npy": lambda cells, path: np.save(path, cells.X.toarray()),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_input_format_goes_from_file_to_synthetic_cells(name, scrdit, tiny_cells, preset, tmp_path):
    WRITERS[name](tiny_cells, tmp_path / name)
    status, text = scrdit("train", name, "--preset", preset, "--out", "run")
    assert status == 0, text
    assert "raw counts recognised" in text, text
    status, text = scrdit("sample", "run", "--cells", 6, "--steps", 3, "--out", "out.h5ad")
    assert status == 0, text
    cells = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert cells.shape == (6, 24)
    if not name.endswith("npy"):
        assert set(cells.var_names) <= set(tiny_cells.var_names)


def test_prepare_train_sample_evaluate_and_info(scrdit, cells_h5ad, preset, tmp_path):
    status, text = scrdit("prepare", cells_h5ad, "--preset", preset, "--out", "prepared.h5ad")
    assert status == 0, text
    assert "held out" in text, text
    assert scrdit("info", "prepared.h5ad")[1].startswith("prepared cells: 90 x 24 genes")
    assert scrdit("train", "prepared.h5ad", "--preset", preset, "--out", "run")[0] == 0
    assert scrdit("train", "prepared.h5ad", "--preset", preset, "--out", "run")[0] == 0
    for options in (
        ["--solver", "ddpm", "--steps", 20],
        ["--solver", "ddim", "--acceleration", 2],
        ["--solver", "ddim", "--schedule", "quadratic", "--eta", 1],
        ["--solver", "dpmpp-2m", "--schedule", "logsnr", "--steps", 5],
    ):
        (tmp_path / "cells.h5ad").unlink(missing_ok=True)
        status, text = scrdit("sample", "run", "--cells", 60, "--out", "cells.h5ad", *options)
        assert status == 0, text
    status, text = scrdit("info", "cells.h5ad")
    assert "60 synthetic cells x 24 genes" in text
    assert "5 network evaluations" in text
    assert "step 2 of 2" in scrdit("info", "run")[1]
    assert "held_out.h5ad holds real cells: delete it before you give the run to anyone" in scrdit("info", "run")[1]
    for real, out in (("run", "report"), (cells_h5ad, "report_of_file")):
        status, text = scrdit("evaluate", real, "cells.h5ad", "--out", out, "--repeats", 1)
        assert status == 0, text
        assert "AUC" in text, text
        report = json.loads((tmp_path / out / "report.json").read_text())
        assert report
        assert (tmp_path / out / "report.html").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("prediction", ["epsilon", "v"])
def test_every_other_prediction_trains_and_samples(prediction, scrdit, cells_h5ad, preset, tmp_path):
    status, text = scrdit("train", cells_h5ad, "--preset", preset, "--prediction", prediction, "--out", "run")
    assert status == 0, text
    assert f"predicts {prediction}" in scrdit("info", "run")[1], text
    assert scrdit("sample", "run", "--cells", 5, "--solver", "unipc", "--steps", 6, "--out", "cells.h5ad")[0] == 0
    cells = anndata.read_h5ad(tmp_path / "cells.h5ad")
    assert cells.shape == (5, 24)
    assert np.isfinite(cells.X.data).all()


def test_the_held_out_cells_of_a_file_are_those_of_the_run(tiny_run, tiny_cells, tmp_path):
    import scrdit_jax
    from scrdit_jax.evaluation.cells import compared_cells

    synthetic = scrdit_jax.sample(tiny_run, 30, steps=3)
    from_run = compared_cells(tiny_run.path, synthetic).held_out
    from_file = compared_cells(tiny_cells, synthetic).held_out
    assert list(from_run.obs_names) == list(from_file.obs_names)
    assert list(from_run.var_names) == list(from_file.var_names)
    np.testing.assert_allclose(from_run.X.toarray(), from_file.X.toarray(), rtol=1e-5)


def edited(cells, change):
    cells = cells.copy()
    cells.X = cells.X.toarray()
    change(cells)
    return cells


def set_entry(value):
    def change(cells):
        cells.X[3, 5] = value

    return change


def repeat_gene(cells):
    cells.var_names = [*cells.var_names[:-1], cells.var_names[0]]


def lose_labels(cells):
    cells.obs["cell_type"] = pd.Categorical([None] * 4 + list(cells.obs["cell_type"])[4:])


def no_cells(cells):
    cells._inplace_subset_obs(np.zeros(cells.n_obs, bool))


MISTAKES = {
    "missing file": (None, ["train", "absent.h5ad"], ["absent.h5ad"]),
    "no such preset": (None, ["train", "pbmc3k", "--preset", "dmeo"], ["'dmeo'", "demo"]),
    "empty": (no_cells, [], ["bad.h5ad", "0 cells"]),
    "NaN": (set_entry(np.nan), [], ["bad.h5ad", "cell3", "GENE5"]),
    "infinity": (set_entry(np.inf), [], ["bad.h5ad", "cell3", "GENE5"]),
    "negative": (set_entry(-1), ["--normalize", "log1p"], ["bad.h5ad", "-1"]),
    "duplicate genes": (repeat_gene, [], ["GENE0", "var_names_make_unique"]),
    "unknown cell type": (
        lambda cells: None,
        ["--cell-type-key", "cell_type", "--cell-type", "Neuron"],
        ["Neuron", "B cell", "T cell"],
    ),
    "no such column": (lambda cells: None, ["--cell-type-key", "celltype"], ["celltype", "cell_type"]),
    "a type without a column": (
        lambda cells: cells.obs.drop(columns="cell_type", inplace=True),
        ["--cell-type", "B cell"],
        ["no column 'cell_type'", "--cell-type-key"],
    ),
    "missing labels": (lose_labels, ["--cell-type-key", "cell_type"], ["cell_type", "4 of 90"]),
    "too few genes": (lambda cells: None, ["--genes", "100"], ["100", "40", "--genes"]),
    "batch of none": (lambda cells: None, ["--batch-size", "0"], ["batch_size is 0"]),
    "held out": (lambda cells: None, ["--held-out", "1"], ["held_out is 1"]),
    "likelihood of no distribution": (
        lambda cells: None,
        ["--prediction", "epsilon", "--loss", "likelihood"],
        ["loss is 'likelihood'", "epsilon", "--prediction mixture", "zero-inflated"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, scrdit, tiny_cells, preset, tmp_path):
    change, words, expected = MISTAKES[name]
    if change is not None:
        edited(tiny_cells, change).write_h5ad(tmp_path / "bad.h5ad")
        words = ["train", "bad.h5ad", *words]
    if "--preset" not in words:
        words = [*words, "--preset", preset]
    before = sorted(tmp_path.iterdir())
    status, text = scrdit(*words, "--out", "run")
    assert status == 2, text
    assert text.startswith("scrdit: "), text
    assert text.count("\n") == 1, text
    assert all(word in text for word in expected), text
    assert sorted(tmp_path.iterdir()) == before


def test_mistakes_in_sampling_get_one_line(scrdit, tiny_run, tmp_path):
    (tmp_path / "ascending.txt").write_text("1 5 20")
    (tmp_path / "outside.txt").write_text("30 5 1")
    (tmp_path / "words.txt").write_text("ten five one")
    (tmp_path / "one.txt").write_text("20")
    (tmp_path / "none.txt").write_text("")
    for words, expected in (
        (["--steps", 21], ["21 steps", "1..20"]),
        (["--steps", 0], ["steps is 0", "1 or more"]),
        (["--schedule", "none.txt"], ["0 timesteps", "at least 1"]),
        (["--solver", "dpmpp-2m", "--steps", 21], ["21 steps", "2..20"]),
        (["--solver", "dpmpp-2m", "--steps", 1], ["1 steps", "2..20", "more"]),
        (["--solver", "dpmpp-2m", "--schedule", "one.txt"], ["1 timesteps", "at least 2"]),
        (["--steps", 3, "--batch-size", 10**9], ["batch_size is 1000000000", "at most 1,048,576"]),
        (["--schedule", "ascending.txt"], ["descend", "5 follows 1"]),
        (["--schedule", "outside.txt"], ["timestep 30", "1..20"]),
        (["--schedule", "words.txt"], ["words.txt", "1000 750 500 1"]),
        (["--schedule", "cosine"], ["'cosine'", "uniform, quadratic, logsnr, karras"]),
        (["--solver", "ddim", "--eta", 2], ["eta is 2", "at most 1"]),
        (["--solver", "ddpm", "--eta", 0.5], ["ddpm takes no eta"]),
        (["--eta", 0.5], ["distributional takes no eta"]),
        (["--solver", "heun"], ["'heun'", "ddim, ddpm, distributional"]),
        (["--acceleration", 0.5], ["acceleration is 0.5"]),
        (["--steps", 5, "--acceleration", 2], ["give one of them"]),
    ):
        status, text = scrdit("sample", tiny_run.path, "--cells", 3, "--out", "cells.h5ad", *words)
        assert status == 2, text
        assert text.startswith("scrdit: "), text
        assert text.count("\n") == 1, text
        assert all(word in text for word in expected), text
    for path, out, expected in (
        ("nowhere", "cells.h5ad", "is not there; give a folder made by 'scrdit train'"),
        (tmp_path, "cells.h5ad", "is no run"),
        (tiny_run.path, "cells.txt", ".h5ad or .zarr"),
    ):
        status, text = scrdit("sample", path, "--cells", 3, "--out", out)
        assert status == 2, text
        assert expected in text, text
        assert text.count("\n") == 1, text
    assert not (tmp_path / "cells.h5ad").exists()


def test_a_fitted_schedule_is_written_and_sampled_with(scrdit, tiny_run, tmp_path):
    fit = ("schedule", tiny_run.path, "--solver", "unipc")
    status, text = scrdit(*fit, "--steps", 4, "--out", "taus.json")
    record = json.loads((tmp_path / "taus.json").read_text())
    taus = record["timesteps"]
    assert status == 0, text
    assert len(taus) == 4, text
    assert taus[0] == 20, text
    assert taus == sorted(set(taus), reverse=True), text
    assert record["solver"] == "unipc"
    assert text.startswith(" ".join(map(str, taus)))
    assert scrdit(*fit, "--steps", 4, "--out", "taus.json")[0] == 0
    assert json.loads((tmp_path / "taus.json").read_text()) == record
    words = ("sample", tiny_run.path, "--cells", 3, "--schedule", "taus.json", "--out", "cells.h5ad")
    status, text = scrdit(*words, "--solver", "distributional")
    assert status == 2, text
    assert "fitted for solver unipc, not distributional; use --solver unipc" in text, text
    # The file says for which solver it is.
    assert scrdit(*words)[0] == 0
    record = anndata.read_h5ad(tmp_path / "cells.h5ad").uns["scrdit"]
    assert list(Provenance.from_uns({"scrdit": record}).timesteps) == taus
    assert record["solver"] == "unipc"
    (tmp_path / "thesis.txt").write_text("years of work")
    for words, steps, out, expected in (
        (fit, 1, "t.json", "1 steps cannot be fitted, only 2 to 20"),
        (fit, 21, "t.json", "21 steps cannot be fitted, only 2 to 20"),
        (fit, 4, "thesis.txt", "holds no timesteps"),
        (fit, 4, "thesis.txt/t.json", "is a file, so"),
        (fit[:2], 0, "t.json", "steps is 0; it must be a whole number, 1 or more"),
        (fit[:2], 9, "t.json", "9 steps cannot be fitted, only 1 to 8"),
        (fit[:2], 4, "t.json", "on 40 held-out cells or more, and there are"),
        (
            (*fit[:3], "ddim"),
            4,
            "t.json",
            "no timesteps can be fitted for solver 'ddim'; there are distributional, unipc",
        ),
    ):
        status, text = scrdit(*words, "--steps", steps, "--out", out)
        assert status == 2, text
        assert expected in text, text
        assert text.count("\n") == 1, text
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "t.json").exists()


def test_files_that_are_not_what_they_say(scrdit, preset, cells_h5ad, tmp_path):
    (tmp_path / "text.h5ad").write_text("hello")
    (tmp_path / "cut.h5ad").write_bytes(cells_h5ad.read_bytes()[:3000])
    (tmp_path / "cells.xlsx").write_text("hello")
    (tmp_path / "words.csv").write_text(",A,B\nc1,1,x\nc2,3,4\n")
    (tmp_path / "folder").mkdir()
    for name in ("text.h5ad", "cut.h5ad", "cells.xlsx", "words.csv", "folder"):
        status, text = scrdit("train", name, "--preset", preset, "--out", "run")
        assert status == 2, text
        assert name in text, text
        assert text.count("\n") == 1, text
    assert not (tmp_path / "run").exists()


def test_prepared_cells_keep_their_settings_and_a_denial_is_refused(scrdit, cells_h5ad, preset, tmp_path):
    words = ("--preset", preset)
    assert scrdit("prepare", cells_h5ad, *words, "--genes", 20, "--seed", 3, "--out", "prepared.zarr")[0] == 0
    for option, expected in (
        (["--genes", 24], "prepared with genes 20, not 24"),
        (["--held-out", 0.1], "prepared with held_out 0.4, not 0.1"),
    ):
        status, text = scrdit("train", "prepared.zarr", *words, *option, "--out", "run")
        assert status == 2, text
        assert expected in text, text
        assert text.count("\n") == 1, text
    wide = json.loads(preset.read_text())
    wide["network"]["genes_per_token"] = 3
    (tmp_path / "wide.json").write_text(json.dumps(wide))
    status, text = scrdit("train", "prepared.zarr", "--preset", "wide.json", "--out", "run")
    assert status == 2, text
    assert "20 genes, no multiple of 3 as the network needs" in text, text
    assert not (tmp_path / "run").exists()
    assert scrdit("train", "prepared.zarr", *words, "--genes", 20, "--seed", 5, "--out", "run")[0] == 0
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["data"]["genes"], config["data"]["seed"], config["training"]["seed"]) == (20, 3, 5)


def test_an_output_below_a_file_is_refused(scrdit, cells_h5ad, tiny_run, preset, tmp_path):
    (tmp_path / "file").write_text("mine")
    for words in (
        ("prepare", cells_h5ad, "--preset", preset, "--out", "file/prepared.h5ad"),
        ("train", cells_h5ad, "--preset", preset, "--out", "file/run"),
        ("sample", tiny_run.path, "--cells", 3, "--out", "file/cells.h5ad"),
    ):
        status, text = scrdit(*words)
        error = text.splitlines()[-1]
        assert status == 2, text
        assert error.startswith("scrdit: "), text
        assert "is a file, so" in error, text
    assert (tmp_path / "file").read_text() == "mine"


def test_evaluating_other_genes_names_one(scrdit, tiny_run, tiny_cells, tmp_path):
    assert scrdit("sample", tiny_run.path, "--cells", 30, "--steps", 3, "--out", "cells.h5ad")[0] == 0
    tiny_cells[:, :10].copy().write_h5ad(tmp_path / "few.h5ad")
    status, text = scrdit("evaluate", "few.h5ad", "cells.h5ad", "--out", "report")
    assert status == 2, text
    assert "lacks" in text, text
    assert "of the model's 24 genes" in text, text


def test_a_changed_run_is_refused_and_kept(scrdit, tiny_run, cells_h5ad, preset, tmp_path):
    shutil.copytree(tiny_run.path, tmp_path / "run")
    status, text = scrdit("train", cells_h5ad, "--preset", preset, "--out", "run")
    assert status == 2, text
    assert "training.steps: 2 here, 12 there" in text, text


def test_help_answers_without_importing_jax():
    code = "import sys; from scrdit_jax.cli import main; main(['train', '--help'], standalone_mode=False); "
    code += "assert not {'jax', 'anndata', 'numpy', 'scipy'} & set(sys.modules), sorted(sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "presets" in result.stdout
    assert "Examples:" in result.stdout


COMMANDS = ("demo", "prepare", "train", "sample", "simulate", "verify", "assemble", "schedule", "evaluate", "info")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command):
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert f"  scrdit {command}" in result.output


@pytest.mark.parametrize(("stopped", "status"), [("SIGTERM received at step 3", 143), ("the 5 minutes are over", 0)])
def test_training_that_a_signal_has_stopped_ends_with_a_status_that_says_so(scrdit, monkeypatch, stopped, status):
    """A scheduler takes 0 for the end of the work."""
    run = SimpleNamespace(stopped=stopped)
    monkeypatch.setattr("scrdit_jax.api.train", lambda *_, **__: run)
    assert scrdit("train", "pbmc3k", "--out", "run") == (status, f"stopped: {stopped}\n")


def test_a_hook_that_is_set_while_a_command_runs_stays(monkeypatch):
    """A checkpoint that cannot be read leaves one, as threads go on reading when the command has ended."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def ignore(unraisable):
        """Not to be replaced."""

    with terminable():
        sys.unraisablehook = ignore
    assert sys.unraisablehook is ignore
