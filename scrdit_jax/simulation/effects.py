"""What is planted, drawn before any cell: the truth that a benchmark asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..config.simulation import GROUP, SimulationConfig

# What the seed is joined with for each kind of draw, so that none moves another's.
FOLD_CHANGES, BATCH_FACTORS, BATCH_DEPTHS, PARTNERS = range(1, 5)


def group_names(config: SimulationConfig) -> tuple[str, ...]:
    """group_1, the reference, and so on; none where there is a single one."""
    return () if config.group_count == 1 else tuple(f"group_{i + 1}" for i in range(config.group_count))


def batch_names(config: SimulationConfig) -> tuple[str, ...]:
    """batch_1 and so on; none where there is a single one."""
    return () if config.batches == 1 else tuple(f"batch_{i + 1}" for i in range(config.batches))


@dataclass(frozen=True, eq=False)
class Effects:
    """log2 of what expected counts are multiplied by: `fold_changes` (category, gene) of the `categories` of a column,
    `batches` (batch, gene) and `depths` (batch,), all float64; 0 where nothing is planted."""

    categories: tuple[str, ...]
    fold_changes: np.ndarray
    batches: np.ndarray
    depths: np.ndarray

    @classmethod
    def draw(cls, config: SimulationConfig, categories: Sequence[str], genes: int, seed: int) -> Effects:
        """Of so many genes; `categories` are those of `config.de_by`.

        A category has round(share genes) genes, chosen at random, of which round(share up) are raised; the first of
        the groups has none. Neither number of genes nor their choice depends on the batches, nor the reverse.
        """
        fold_changes = np.zeros((len(categories), genes))
        low, high = config.log2_fold_change
        for code in range(1 if config.de_by == GROUP else 0, len(categories)):
            random = np.random.default_rng([seed, FOLD_CHANGES, code])
            chosen = random.permutation(genes)[: round(config.de_share * genes)]
            size = low + (high - low) * random.random(len(chosen))
            up = np.arange(len(chosen)) < round(config.up_share * len(chosen))
            fold_changes[code, chosen] = np.where(up, size, -size)
        random = np.random.default_rng([seed, BATCH_FACTORS])
        batches = config.batch_strength * random.standard_normal((config.batches, genes))
        batches[:, random.permutation(genes)[round(config.batch_share * genes) :]] = 0
        depths = config.batch_depth * np.random.default_rng([seed, BATCH_DEPTHS]).standard_normal(config.batches)
        return cls(tuple(categories), fold_changes, batches, depths)

    @property
    def is_de(self) -> np.ndarray:
        """Whether a gene's expression differs between categories, (gene,) bool."""
        return np.any(self.fold_changes != 0, axis=0)

    def factors(self, category: int, batch: int) -> np.ndarray:
        """What the genes of a cell of this category (-1: none) and batch are multiplied by, but for depth, (gene,)."""
        log2 = self.batches[batch] if category < 0 else self.batches[batch] + self.fold_changes[category]
        return np.exp2(log2)
