"""Gene names in the order a model was trained on them."""

from __future__ import annotations

from pathlib import Path

from ..data.reading import read_cells
from ..errors import BadInput

LINES = {".txt", ".tsv", ".csv", ".list", ".genes", ""}


def read_gene_names(path: Path) -> tuple[str, ...]:
    """Names from a text file with one a line, or of the genes of a file of cells, in their order."""
    if path.is_dir() or path.suffix.lower() not in LINES:
        return tuple(read_cells(path).var_names)
    try:
        names = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as gene names, one a line ({error})") from None
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1] if len(set(names)) < len(names) else []
    if repeated:
        raise BadInput(f"{path} names {repeated[0]!r} more than once; every gene has one line")
    return tuple(names)
