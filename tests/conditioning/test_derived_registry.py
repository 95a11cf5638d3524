"""A derived variable is one file: one that is dropped into the folder is conditioned on from the command line."""

import anndata
import numpy as np

import scrdit_jax.conditioning.derived as package
from scrdit_jax.checkpoint import load_model

TOY = '''
"""Thirds of the cells by a coin of their own."""
from scrdit_jax.conditioning.derived import Derived


def find(cells, count):
    return {"scrdit_toss": cells.rng.integers(0, count, len(cells.genes))}


DERIVED = Derived("tosses", find, coarse=True)
'''


def test_a_file_in_the_folder_is_a_condition_of_the_command_line(scrdit, tiny_cells, tiny_config, tmp_path, add_part):
    (tmp_path / "tiny.json").write_text(__import__("json").dumps(tiny_config.to_dict()))
    tiny_cells.write_h5ad("cells.h5ad")
    words = ("train", "cells.h5ad", "--preset", "tiny.json", "--steps", 2, "--out", "run")
    status, printed = scrdit(*words, "--derive", "toss=3")
    assert status == 2
    assert "no derived variable 'toss'; there are clusters, detected-genes, pc-scores" in printed
    add_part(package, "toss", TOY)
    assert scrdit(*words, "--derive", "toss=many")[1].strip().endswith("write toss=32, for example")
    status, printed = scrdit(*words, "--derive", "toss=3", "--derive", "detected-genes=2")
    assert status == 0, printed
    assert "conditioned on 3 tosses" in printed
    toss, bins = load_model("run").metadata.variables
    assert (toss.name, toss.source, len(toss.categories)) == ("scrdit_toss", "toss", 3)
    assert bins.source == "detected-genes"
    assert load_model("run").metadata.settings.derive == (("toss", 3), ("detected-genes", 2))
    words = ("sample", "run", "--cells", 9, "--batch-size", 4, "--output", "counts", "--out", "new.h5ad")
    status, printed = scrdit(*words)
    assert status == 0, printed
    assert np.isfinite(anndata.read_h5ad("new.h5ad").X.data).all()
    status, printed = scrdit(
        *("train", "cells.h5ad", "--preset", "tiny.json", "--steps", 2), "--derive", "none", "--out", "b"
    )
    assert status == 0, printed
    assert load_model("b").metadata.variables == ()
