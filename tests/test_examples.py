"""The examples in docstrings do what they show, on small cells and a small model."""

import doctest
import json

import pytest

import scrdit_jax
from scrdit_jax import pl

# Too slow: `benchmark` times all solvers; `pretrained` and `import_torch` make models of other sizes.
WITHOUT = {"benchmark", "import_torch", "pl", "pretrained"}
FUNCTIONS = [getattr(scrdit_jax, name) for name in scrdit_jax.__all__ if name not in WITHOUT]
FUNCTIONS += [getattr(pl, name) for name in pl.__all__]


@pytest.fixture
def small(tiny_cells, tiny_run, tiny_config, tmp_path, monkeypatch):
    """What examples begin with: `adata`, a `run`, `cells` from it, and small.json, a preset."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.json").write_text(json.dumps(tiny_config.to_dict()))
    cells = scrdit_jax.sample(tiny_run, 40, steps=2)
    return {"scrdit": scrdit_jax, "adata": tiny_cells.copy(), "run": tiny_run, "cells": cells}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_examples_do_what_they_show(function, small):
    found = doctest.DocTestFinder(recurse=False).find(function, function.__name__, globs=small)
    assert sum(len(test.examples) for test in found), f"{function.__name__} has no example"
    said = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for test in found:
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)
