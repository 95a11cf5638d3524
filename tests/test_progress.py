"""Progress bars show in notebooks, with and without widgets, and not where output goes to a file."""

import importlib.util
import io
import sys
import types

import pytest
from tqdm.notebook import tqdm as widget

from scrdit_jax import progress


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setitem(sys.modules, progress.KERNEL, types.ModuleType(progress.KERNEL))


def shown(disable=None):
    """What a bar prints to a file."""
    file = io.StringIO()
    with progress.bar_type()(total=3, disable=disable, file=file) as bar:
        bar.update(3)
    return file.getvalue()


def test_a_file_has_nothing():
    assert shown() == ""


def test_a_notebook_without_widgets_has_text(notebook, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "3/3" in shown()
    assert shown(disable=True) == ""
    monkeypatch.setenv(progress.HIDE, "1")
    assert shown() == ""


def test_a_notebook_with_widgets_has_those(notebook, monkeypatch):
    assert not issubclass(progress.tqdm, widget)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert issubclass(progress.bar_type(), widget)
