"""Tables of text: aligned for a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts in rows under a `header`, and what is to be said before them; the first of a row names it."""

    title: str
    introduction: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    def text(self) -> str:
        """Aligned for a terminal."""
        return text_table(self.header, self.rows)


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns two spaces apart under a rule, the first to the left and the others to the right."""
    lines = [[str(cell) for cell in line] for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def aligned(line: Sequence[str]) -> str:
        first, *others = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([aligned(lines[0]), rule, *map(aligned, lines[1:])])


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: bool = False) -> str:
    """A table in Markdown, with a newline at its end; with `numbers`, all columns but the first go to the right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(header) - 1)]
    lines = [[str(cell).replace("|", r"\|") for cell in line] for line in (header, *rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))
