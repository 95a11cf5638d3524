"""What a prediction is, for training and sampling; see the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Scale(Protocol):
    """From log expression to what the network sees: (x - mean) / std, and zeros to `zero`; each gene's `quantiles` on
    the log scale, (gene, edge), where they were asked for (see data.scaling)."""

    zero: float
    mean: float
    std: float
    quantiles: tuple[tuple[float, ...], ...] | None


class Prediction(Protocol):
    """See the module; frozen and hashable, so static under `jit`."""

    @classmethod
    def for_scale(cls, scale: Scale) -> Prediction:
        """The prediction for cells that were scaled so."""

    @property
    def outputs(self) -> int:
        """Numbers a gene: 1 (`predicted` is (cell, gene)), or more (`predicted` is (cell, gene, outputs))."""

    def initial_bias(self, marginals: Any) -> Any:
        """Where the bias of each gene's outputs may begin, (gene, outputs), given `data.marginals.gene_marginals` of
        the training cells, (gene, 3); None where nothing is known."""

    def clean(self, noisy: Any, predicted: Any, alpha_bar: Any) -> Any:
        """Predicted x_0, (cell, gene)."""

    def error(self, clean: Any, noise: Any, noisy: Any, predicted: Any, alpha_bar: Any) -> Any:
        """What is to be made small in mean square, (cell, gene)."""

    @property
    def is_distribution(self) -> bool:
        """Whether it can be drawn from."""

    @property
    def needs_quantiles(self) -> bool:
        """Whether the scale must have each gene's quantiles."""

    @property
    def needs_library_size(self) -> bool:
        """Whether it must be bound `for_cells` of known library sizes."""

    def for_cells(self, log_size: Any) -> Prediction:
        """The prediction for cells of these log size factors, (cell,) float32: the log of their library size divided by
        the target sum of the normalisation; None where that is not known. Itself, where it does not matter."""


def guided(conditional: Any, without: Sequence[Any], weights: Sequence[Any]) -> Any:
    """conditional + sum_c (w_c - 1) (conditional - without_c): moved away from what is predicted `without` all
    conditions (classifier-free guidance, Ho & Salimans 2022), or without each of several (composed as by Liu et al.
    2022). All of one shape."""
    plain, weight = without[0], weights[0]
    moved = plain + weight * (conditional - plain)
    for plain, weight in zip(without[1:], weights[1:], strict=True):
        moved = moved + (weight - 1) * (conditional - plain)
    return moved


class BasePrediction:
    """What most predictions are: the same for all cells, whatever their library size, and without quantiles."""

    needs_quantiles = False
    needs_library_size = False

    def for_cells(self, log_size: Any) -> Any:
        """The same for all cells."""
        return self


@dataclass(frozen=True)
class PointPrediction(BasePrediction):
    """One number a gene, which means one clean cell whatever the cells were scaled by."""

    outputs = 1
    is_distribution = False

    @classmethod
    def for_scale(cls, scale: Scale) -> PointPrediction:
        """The same for every scale."""
        return cls()

    def initial_bias(self, marginals: Any) -> None:
        """What is predicted depends on the noise, so nothing is known before."""
        return
