"""A request for cells with everything said, and the record of what it is made by."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from .. import __version__
from ..conditioning.request import Quotas
from ..conditioning.variables import Variable
from ..config import SamplingConfig
from ..errors import BadConfig
from ..families import Family, Trained, models_of
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
            network_evaluations=len(table.timestep) * (2 if is_guided(trained, self.sampling) else 1),
            models=tuple(ModelRecord(m.digest, m.step, m.config, m.metadata) for m in models),
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


def is_guided(trained: Trained, sampling: SamplingConfig) -> bool:
    """Whether a step takes a second evaluation, without conditions; BadConfig where there is nothing to guide by.

    Guidance 1 is as conditioned and 0 is unconditional, so neither needs the other.
    """
    family = isinstance(trained, Family)
    if sampling.guidance != 1 and (family or not trained.metadata.variables):
        what = "a family of models, one a cell type" if family else "trained without labels"
        raise BadConfig(f"this model is {what}, so nothing can be guided; leave --guidance out")
    return sampling.guidance not in (0, 1)
