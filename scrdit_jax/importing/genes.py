"""Gene names in the order a model was trained on them."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import BadInput
from ..io.reading import read_cells
from ..paths import readable_path

# What stands beside or around a name where a table was meant.
NO_PART_OF_A_NAME = re.compile('[\t,;"]')
LINES = {".txt", ".tsv", ".csv", ".list", ".genes", ""}


def read_gene_names(path: Path) -> tuple[str, ...]:
    """Names from a text file with one a line, or of the genes of a file of cells, in their order."""
    if readable_path(path).is_dir() or path.suffix.lower() not in LINES:
        return tuple(read_cells(path).var_names)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as gene names, one a line ({error})") from None
    for number, line in enumerate(lines, start=1):
        if NO_PART_OF_A_NAME.search(line.strip()):
            raise BadInput(
                f"{path}: line {number} is {line.strip()[:40]!r}, more than a gene's name; give a file with one name a "
                "line and nothing else, or a file of cells"
            )
    return tuple(line.strip() for line in lines if line.strip())
