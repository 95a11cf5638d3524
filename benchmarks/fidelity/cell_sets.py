"""Real cells that generators are fitted on and scored against: training, validation and test, one split for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from benchmarks.peers import Skipped
from scrdit_jax.config import GENE_SELECTIONS, DataConfig, RunConfig
from scrdit_jax.data.genes import choose_genes
from scrdit_jax.data.preparing import Prepared
from scrdit_jax.data.sources import load_prepared
from scrdit_jax.data.splitting import validation_mask
from scrdit_jax.data.statistics import GeneStatistics
from scrdit_jax.errors import BadConfig, BadInput
from scrdit_jax.evaluation.memorisation import TrainingComponents
from scrdit_jax.evaluation.metrics import dense
from scrdit_jax.extras import optional
from scrdit_jax.io.reading import EMBEDDED, load_cells

SIDES = {"validation": "validation", "test": "test", "both": "held-out"}
# What a recipe may change in how cells are prepared: it leaves the cells that are compared as they are.
# The order of genes is the network's affair: cells are compared in the file's.
OF_THE_MODEL = (
    "zero_value", "standardize", "condition_on", "derive", "least_reproduced", "clip", "quantiles", "gene_order",
)  # fmt: skip
# How a data set is written on the command line, and genes to score over.
SYNTAX = "PATH[:COLUMN][@GENE_SELECTION]"
ALL_GENES = "all"
SCORED_SYNTAX = f"{ALL_GENES}|SELECTION:N"
LEAST_CELLS = 20
MOST_REFERENCE = 2000


@dataclass(frozen=True)
class Source:
    """A data set by path (or "pbmc3k") and, where it is not `cell_type`, the column of its cell types.

    `gene_selection` is how its genes are chosen, where not as the first preset or run has it: with "detected" those
    with the fewest zeros, which makes a deep set of a sparse one.
    """

    data: str
    cell_type_key: str | None = None
    gene_selection: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """SYNTAX; a file of just that name comes first."""
        data, at, selection = text.rpartition("@")
        if at and selection in GENE_SELECTIONS and not Path(text).exists():
            return replace(cls.parse(data), gene_selection=selection)
        data, colon, key = text.rpartition(":")
        return cls(data, key) if colon and not Path(text).exists() else cls(text)

    @property
    def name(self) -> str:
        """What the tables call it."""
        stem = self.data if self.data == EMBEDDED else Path(self.data).stem
        return stem if self.gene_selection is None else f"{stem}@{self.gene_selection}"


@dataclass(frozen=True)
class ScoredGenes:
    """Genes that scores are taken over: all that generators make, or the `count` best of them by a selection.

    Chosen on the training cells, as the package chooses the genes of a model by default.
    """

    selection: str = ALL_GENES
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> ScoredGenes:
        """SCORED_SYNTAX; BadConfig for anything else."""
        selection, _, count = text.partition(":")
        if text == ALL_GENES:
            return cls()
        if selection == ALL_GENES or selection not in GENE_SELECTIONS or not count.isdecimal() or not int(count):
            others = ", ".join(name for name in GENE_SELECTIONS if name != ALL_GENES)
            raise BadConfig(f"--scored-genes {text}: write {ALL_GENES}, or one of {others} and how many, as hvg:2000")
        return cls(selection, int(count))

    @property
    def suffix(self) -> str:
        """What a data set's name has more for it."""
        return "" if self.count is None else f", {self.selection}:{self.count}"

    def columns(self, prepared: Prepared, source: str) -> np.ndarray | slice:
        """Which of the prepared genes; BadInput where there are too few."""
        if self.count is None:
            return slice(None)
        config = DataConfig(gene_selection=self.selection, genes=self.count)
        statistics = GeneStatistics.of_all(prepared.train.X)
        return choose_genes(statistics, config, multiple_of=1, source=source)[0]


@dataclass(frozen=True, eq=False)
class CellSet:
    """Training cells and the held-out cells of one `side`, as (cell, gene) float32 log values with their types, if any.

    The held-out cells are halved by their names and the split's seed: validation cells are for choosing between
    recipes, test cells for what is reported of the choice. Both together are twice as many, and so see finer.
    Generators make all the genes of a `whole` set; `on` gives the same cells in those genes that are scored.
    """

    source: Source
    prepared: Prepared
    side: str
    multiple_of: int
    most: int = MOST_REFERENCE
    scored: ScoredGenes = ScoredGenes()
    made_for: CellSet | None = None

    @classmethod
    def read(
        cls, source: Source, config: DataConfig, side: str, *, multiple_of: int, most: int = MOST_REFERENCE
    ) -> CellSet:
        """Prepare the cells, of which `most` at most are compared with; BadInput where there are too few."""
        genes = config.gene_selection if source.gene_selection is None else source.gene_selection
        config = replace(
            config, cell_type_key=source.cell_type_key, condition_on=(), gene_selection=genes, gene_order="file"
        )
        cells = cls(source, load_prepared(source.data, config, multiple_of=multiple_of), side, multiple_of, most)
        if len(cells.reference) < LEAST_CELLS:
            raise BadInput(
                f"{source.data}: {len(cells.reference)} {side} cells are too few to compare with; give more cells, "
                f"or a preset that holds out more, so that there are {LEAST_CELLS}"
            )
        return cells

    def on(self, scored: ScoredGenes) -> CellSet:
        """The same cells in those genes."""
        return self if scored.count is None else replace(self, scored=scored, made_for=self)

    def of_type(self, name: str) -> CellSet:
        """The set with the cells of one type alone."""
        kept = self.prepared.cells.obs[self.prepared.metadata.cell_type_key].astype(str) == name
        return replace(self, prepared=replace(self.prepared, cells=self.prepared.cells[kept.to_numpy()]))

    @property
    def whole(self) -> CellSet:
        """The set with all the genes that generators make."""
        return self if self.made_for is None else self.made_for

    @property
    def name(self) -> str:
        """What the tables call it."""
        return self.source.name + self.scored.suffix

    @property
    def made_by(self) -> dict[str, Any]:
        """What decides the scores of a generator's cells on this set, as plain values."""
        values = {"digest": self.prepared.metadata.digest, "genes": self.prepared.cells.n_vars}
        return values if self.scored.count is None else {**values, "scored": self.scored.suffix[2:]}

    @cached_property
    def columns(self) -> np.ndarray | slice:
        """Of the genes that generators make, those that are scored."""
        return self.scored.columns(self.prepared, self.source.name)

    @cached_property
    def genes(self) -> np.ndarray:
        """The names of those."""
        return self.prepared.cells.var_names.to_numpy()[self.columns]

    @cached_property
    def training(self) -> np.ndarray:
        """The cells that generators may see."""
        return dense(self.prepared.train.X[:, self.columns])

    @cached_property
    def training_types(self) -> np.ndarray | None:
        """A name for each training cell; None where the data have none."""
        return self._types(self.prepared.train.obs)

    @cached_property
    def reference(self) -> np.ndarray:
        """The held-out cells of the side, `most` at most."""
        return dense(self.prepared.held_out.X[self._chosen][:, self.columns])

    @property
    def reference_names(self) -> list[str]:
        """The names of those cells."""
        return list(self.prepared.held_out.obs_names[self._chosen])

    @cached_property
    def reference_types(self) -> np.ndarray | None:
        """A name for each of them."""
        return self._types(self.reference_obs)

    @property
    def reference_obs(self) -> pd.DataFrame:
        """The table of them."""
        return self.prepared.held_out.obs.iloc[self._chosen]

    @cached_property
    def _chosen(self) -> np.ndarray:
        first = validation_mask(self.prepared.held_out.obs, self.prepared.metadata.settings)
        both = np.full(len(first), self.side == "both")
        rows = np.flatnonzero(both | (first == (self.side == "validation")))
        return np.sort(np.random.default_rng(0).permutation(rows)[: self.most])

    def _types(self, obs) -> np.ndarray | None:
        key = self.prepared.metadata.cell_type_key
        return None if key is None else obs[key].astype(str).to_numpy()

    def prepared_for(self, config: RunConfig) -> Prepared:
        """The same cells, split and genes, scaled and with the conditioning that `config` asks for."""
        asked = {name: getattr(config.data, name) for name in OF_THE_MODEL}
        settings = replace(self.prepared.metadata.settings, **asked)
        return load_prepared(
            self.source.data, settings, multiple_of=self.multiple_of, groups=config.network.gene_groups
        )

    @cached_property
    def training_counts(self) -> tuple[sparse.csr_matrix, np.ndarray]:
        """(raw counts (cell, gene) of the training cells, each one's sum over all genes of the file)."""
        train = self.prepared.train
        return self.counts_of(train.obs_names), train.obs["library_size"].to_numpy(np.float64)

    def counts_of(self, names: Sequence[str]) -> sparse.csr_matrix:
        """Raw counts (cell, gene) of the cells of these names; Skipped where the file has none."""
        if not self.prepared.metadata.normalization.were_counts:
            raise Skipped("needs raw counts, and these cells came on a log scale")
        cells, _ = load_cells(self.source.data)
        return sparse.csr_matrix(cells[list(names), list(self.prepared.cells.var_names)].X, dtype=np.float32)

    @cached_property
    def space(self) -> Space:
        """The training cells' first 50 principal components, and a classifier of types in them."""
        return Space.fit(self.training, self.training_types, self.reference, self.reference_types)


@dataclass(frozen=True)
class Space:
    """PCA-50 fitted on training cells alone, with the PC scores (cell, component) of training and reference cells.

    `classifier` is fitted on the training cells, None without types; `accuracy` is the
    share of reference cells that it gives their own type.
    """

    components: TrainingComponents
    training: np.ndarray
    reference: np.ndarray
    classifier: Any | None
    accuracy: float | None

    @classmethod
    def fit(
        cls,
        training: np.ndarray,
        training_types: np.ndarray | None,
        reference: np.ndarray,
        reference_types: np.ndarray | None,
    ) -> Space:
        """From (cell, gene) log values, and a name for each cell or None."""
        components = TrainingComponents.fit(training)
        training_scores, reference_scores = components.project(training), components.project(reference)
        classifier = accuracy = None
        if training_types is not None and len(set(training_types)) > 1:
            classifier = optional("sklearn.linear_model").LogisticRegression(max_iter=2000)
            classifier.fit(training_scores, training_types)
            accuracy = float((classifier.predict(reference_scores) == reference_types).mean())
        return cls(components, training_scores, reference_scores, classifier, accuracy)

    def project(self, cells: np.ndarray) -> np.ndarray:
        """PC scores of other cells, (cell, component)."""
        return self.components.project(cells)

    def classify(self, scores: np.ndarray) -> np.ndarray | None:
        """The classifier's type for each; None without types."""
        return None if self.classifier is None else self.classifier.predict(scores).astype(str)
