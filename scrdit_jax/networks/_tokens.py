"""How genes are made tokens: runs of neighbouring genes, longer ones of rare genes."""

from __future__ import annotations

from typing import NamedTuple

from ..config import GeneGroups


class TokenPart(NamedTuple):
    """Genes `first` to `first` + `genes` - 1, `size` of which are a token."""

    first: int
    genes: int
    size: int

    @property
    def tokens(self) -> int:
        """How many."""
        return -(-self.genes // self.size)

    @property
    def filled(self) -> int:
        """What the last lacks."""
        return self.tokens * self.size - self.genes


def token_parts(groups: GeneGroups, genes: int) -> tuple[TokenPart, ...]:
    """How so many genes are made tokens: those that are not rare, then the rare ones, where there are any."""
    often = groups.often(genes)
    parts = (TokenPart(0, often, groups.size),)
    return parts if often == genes else (*parts, TokenPart(often, genes - often, groups.rare_size))


def gene_tokens(groups: GeneGroups, genes: int) -> int:
    """How many tokens so many genes are."""
    return sum(part.tokens for part in token_parts(groups, genes))
