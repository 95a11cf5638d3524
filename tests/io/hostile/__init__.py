"""Files that are damaged, lie about their size or are none: each a function that makes one in a folder."""

from . import npy, others, rows, stores, tables, tenx  # noqa: F401 - each adds its files
from .making import FILES, small_cells

__all__ = ["FILES", "small_cells"]
