"""Progress bars show in notebooks, with and without widgets, and not where output goes to a file."""

import importlib.util
import io
import sys
import types

import pytest
from tqdm import tqdm as text_bar

from scrdit_jax import progress


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, progress.KERNEL, types.ModuleType(progress.KERNEL))


def test_a_terminal_has_text_and_a_file_nothing():
    assert progress.bar_type() is text_bar
    file = io.StringIO()
    with progress.tqdm(total=3, disable=None, file=file) as bar:
        bar.update(3)
    assert file.getvalue() == ""


def test_a_notebook_without_widgets_has_text(notebook, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for disable, shown in ((None, True), (True, False)):
        file = io.StringIO()
        with progress.bar_type()(total=3, disable=disable, file=file) as bar:
            bar.update(3)
        assert ("3/3" in file.getvalue()) == shown


def test_a_notebook_with_widgets_has_those(notebook, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert progress.bar_type().__module__ == "tqdm.notebook"
