"""A derived number is one file: one that is dropped into the folder is conditioned on from the command line."""

import json

import anndata
import numpy as np
import pytest

import scrdit_jax.conditioning.derived as package
from scrdit_jax.checkpoint import load_model

TOY = '''
"""The first values of a cell, as they are."""
import numpy as np

from scrdit_jax.conditioning.derived import Derived


def axes(cells, count):
    return np.eye(cells.shape[1], count, dtype=np.float32)


DERIVED = Derived(title="first values", columns=lambda block, axes: np.asarray(block.x @ axes), axes=axes, most=4)
'''


@pytest.mark.slow
def test_a_file_in_the_folder_is_a_condition_of_the_command_line(scrdit, tiny_cells, tiny_config, tmp_path, add_part):
    (tmp_path / "tiny.json").write_text(json.dumps(tiny_config.to_dict()))
    tiny_cells.write_h5ad("cells.h5ad")
    words = ("train", "cells.h5ad", "--preset", "tiny.json", "--steps", 2, "--out", "run")
    status, printed = scrdit(*words, "--derive", "first=3")
    assert status == 2
    assert "no derived number 'first'; there are detected-genes, library-size, pc-scores" in printed
    add_part(package, "first", TOY)
    assert scrdit(*words, "--derive", "first=many")[1].strip().endswith("write first=32, for example")
    assert (
        "derive of first is 5; it must be a whole number, 1 or more and at most 4"
        in scrdit(*words, "--derive", "first=5")[1]
    )
    status, printed = scrdit(*words, "--derive", "first=3", "--derive", "detected-genes=1")
    assert status == 0, printed
    assert "conditioned on 3 first values, number of detected genes" in printed
    metadata = load_model("run").metadata
    assert [c.source for c in metadata.state] == ["first"] * 3 + ["detected-genes", "library-size"]
    assert metadata.settings.derive == (("first", 3), ("detected-genes", 1))
    status, printed = scrdit(
        *("sample", "run", "--cells", 9, "--batch-size", 4, "--output", "counts", "--out", "new.h5ad")
    )
    assert status == 0, printed
    assert np.isfinite(anndata.read_h5ad("new.h5ad").X.data).all()
    status, printed = scrdit(
        *("train", "cells.h5ad", "--preset", "tiny.json", "--steps", 2), "--derive", "none", "--out", "b"
    )
    assert status == 0, printed
    assert load_model("b").metadata.conditioned_states == 0
