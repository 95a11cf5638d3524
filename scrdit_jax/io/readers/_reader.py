"""What a format is to those who read files of cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anndata import AnnData

from ..backed import BackedCells


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One format: how its files are known, and how they are read.

    `formats` names it to the user (".h5ad"). `sniff` says, from a path that exists, whether this reader is to read it,
    and `read` gives its cells x genes, unchecked. `open` gives the cells with X left on the disk, or None where X
    cannot be read by rows; `bytes_in_memory` what X would take as float32, or None. A reader of greater `priority` is
    asked before others. `genes_in_rows`: the files always have genes in their rows and `read` turns them, so that
    nobody need ask for it. `named`: the files name their genes; else they are called gene_0, gene_1, ...

    What a damaged file makes `read` and `open` raise (OSError, KeyError, ValueError, ...) becomes one line about it.
    """

    formats: str
    sniff: Callable[[Path], bool]
    read: Callable[[Path], AnnData]
    open: Callable[[Path], BackedCells | None] | None = None
    bytes_in_memory: Callable[[Path], int | None] | None = None
    priority: int = 0
    genes_in_rows: bool = False
    named: bool = True


def has_suffix(path: Path, *suffixes: str) -> bool:
    """Whether `path` is a file with one of these suffixes, in upper case or lower case."""
    return path.name.lower().endswith(suffixes) and path.is_file()
