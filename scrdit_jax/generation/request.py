"""A request for cells with everything said, and the record of what it is made by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import NamedTuple

from .. import __version__
from ..checkpoint import Model
from ..conditioning.request import Quotas
from ..conditioning.unseen import notes_on_unseen
from ..conditioning.variables import Variable
from ..config import SamplingConfig
from ..errors import BadConfig
from ..families import Family, Trained, models_of
from ..io.checking import listed
from ..provenance import ModelRecord, Provenance
from .settings import coefficients_for, resolve_sampling


@dataclass(frozen=True)
class SampleRequest:
    """Which cells, and how they are sampled: `sampling` leaves nothing open but, perhaps, the batch size."""

    quotas: Quotas
    sampling: SamplingConfig

    @classmethod
    def of(
        cls, trained: Trained, quotas: Quotas, sampling: SamplingConfig, *, dtype: str | None = None
    ) -> SampleRequest:
        """The request with what `sampling` leaves open resolved for the model at hand.

        `dtype` is that of cells which are there already, where `sampling` has none. Raises BadConfig or BadTimesteps
        where the model cannot be sampled so.
        """
        return cls(quotas, resolve_sampling(models_of(trained)[0], sampling, dtype=dtype))

    @property
    def cells(self) -> int:
        """How many."""
        return self.quotas.cells

    def provenance(self, trained: Trained) -> Provenance:
        """What makes these cells."""
        models = models_of(trained)
        table = coefficients_for(models[0].config.diffusion, self.sampling, models[0])
        variables = observed_variables(trained)
        return Provenance(
            cells=self.cells,
            quotas=tuple(self.quotas.named(variables)),
            variables=variables,
            sampling=asdict(self.sampling),
            timesteps=tuple(table.timestep.tolist()),
            network_evaluations=len(table.timestep) * (1 + guidance_of(trained, self.sampling).evaluations),
            models=tuple(ModelRecord(m.digest, m.step, m.config, m.metadata, m.privacy) for m in models),
            version=__version__,
        )

    @classmethod
    def from_provenance(cls, provenance: Provenance) -> SampleRequest:
        """The request that cells were begun with."""
        quotas = Quotas.from_named(provenance.quotas, provenance.variables)
        return cls(quotas, SamplingConfig(**provenance.sampling))


def observed_variables(trained: Trained) -> tuple[Variable, ...]:
    """The variables that synthetic cells carry in obs."""
    return (trained.variable,) if isinstance(trained, Family) else trained.metadata.variables


class Guidance(NamedTuple):
    """The `weights` of guidance, and the places of the `columns` that are guided by themselves; no columns: all
    conditions together."""

    weights: tuple[float, ...] = ()
    columns: tuple[int, ...] = ()

    @property
    def evaluations(self) -> int:
        """How many a step takes beside that with all conditions."""
        return len(self.weights)


def guidance_of(trained: Trained, sampling: SamplingConfig) -> Guidance:
    """What a step's further evaluations are for; BadConfig where there is nothing to guide by.

    Guidance 1 is as conditioned and 0 is unconditional, so neither needs the other.
    """
    wanted, family = sampling.guidance, isinstance(trained, Family)
    if wanted != 1 and (family or not trained.metadata.variables):
        what = "a family of models, one a cell type" if family else "trained without labels"
        raise BadConfig(f"this model is {what}, so nothing can be guided; leave --guidance out")
    if not isinstance(wanted, tuple):
        return Guidance() if wanted in (0, 1) else Guidance((wanted,))
    names = [variable.name for variable in trained.metadata.variables]
    for name, _ in wanted:
        if name not in names:
            raise BadConfig(f"--guidance names a column {name!r}; the model is conditioned on {listed(names)}")
    if not drops_columns(trained):
        raise BadConfig(
            "guidance by column needs a model that was trained with column_dropout, and this one was with "
            "column_dropout 0; train with --column-dropout 0.1, or give one number as --guidance"
        )
    return Guidance(tuple(weight for _, weight in wanted), tuple(names.index(name) for name, _ in wanted))


def notes_on(trained: Trained, quotas: Quotas) -> list[str]:
    """Sentences on what a request asks for that the training cells do not have."""
    notes = notes_on_unseen(quotas, trained.conditions)
    left_out = any(code < 0 for codes in quotas.codes for code in codes)
    if left_out and not isinstance(trained, Family) and not drops_columns(trained):
        notes.append(
            "this model was trained with column_dropout 0, so it has not learnt to leave out a single column; name "
            "every column, or train with --column-dropout 0.1"
        )
    return notes


def drops_columns(model: Model) -> bool:
    """Whether a model has learnt to predict without a single column. Without its only condition it has by being
    trained without all."""
    only = len(model.metadata.variables) == 1 and not model.metadata.conditioned_states
    training = model.config.training
    return (training.label_dropout if only else training.column_dropout) > 0
