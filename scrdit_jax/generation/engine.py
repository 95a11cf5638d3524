"""The sampler of one model on its devices: dispatches batches of cells by their global indices, and fetches them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import NamedSharding

from ..attention import with_fastest_attention
from ..checkpoint import Model
from ..conditioning.assignment import Assignment
from ..conditioning.request import Quotas
from ..config import SamplingConfig
from ..data.packed import Packed
from ..devices import usable_devices
from ..errors import Diverged
from ..networks import conditioning_params
from ..sampling.solvers import Coefficients, find_solver
from . import tuning
from .conditions import new_conditions, states_of
from .packing import cut, pack
from .program import Guide, Method, Placement, Program, Sampled, SampledBatch, make_program, network_of, place, prepare
from .quantisation import body_dtype
from .request import guidance_of
from .settings import coefficients_for, resolve_sampling


@dataclass(frozen=True)
class Engine:
    """A compiled program, and which conditions each cell has; `gene_order` is that of the model's metadata, (gene,)
    int32, None where the file's order is the network's."""

    program: Program
    assignment: Assignment
    gene_order: np.ndarray | None = None

    @property
    def batch_size(self) -> int:
        """Cells in a batch."""
        return self.program.batch_size

    @property
    def network(self) -> nn.Module:
        """The network, without its weights."""
        return self.program.network

    @property
    def coefficients(self) -> Coefficients:
        """The solver's table."""
        return self.program.coefficients

    @property
    def placement(self) -> Placement:
        """Where the batch and everything else lie."""
        return self.program.placement

    @property
    def devices(self) -> tuple[jax.Device, ...]:
        """Those that a batch is shared out over."""
        return self.placement.devices

    @property
    def shared_out(self) -> NamedSharding:
        """How the cells of a batch lie over the devices."""
        return self.placement.shared_out

    @property
    def evaluations(self) -> int:
        """Steps of the solver: network evaluations a cell, but for those of guidance."""
        return len(self.coefficients.timestep)

    def empty(self) -> jax.Array:
        """A buffer for a batch, to `dispatch` into."""
        return jax.device_put(np.zeros((self.batch_size, self.network.genes), np.float32), self.shared_out)

    def dispatch(self, first: int, donated: jax.Array | None = None) -> SampledBatch:
        """Begin the batch of cells `first`, `first` + 1, ...; returns at once. `donated` is used up."""
        rows = self.assignment.rows(first, self.batch_size)
        return self.program(first, rows, self.empty() if donated is None else donated)

    @property
    def packs(self) -> bool:
        """Whether cells are packed where they are made; a CPU's are on the host already."""
        return self.devices[0].platform != "cpu"

    def pack(self, cells: jax.Array, room: int) -> Packed:
        """A batch without its zeros, genes in the file's order and room for so many values a cell; returns at once."""
        return cut(pack(cells, self._order_on_devices), room)

    @cached_property
    def _order_on_devices(self) -> jax.Array | None:
        return None if self.gene_order is None else jax.device_put(self.gene_order, self.placement.on_each)

    def in_file_order(self, cells: np.ndarray) -> np.ndarray:
        """Dense cells of a batch (cell, gene) with the genes in the file's order."""
        return cells if self.gene_order is None else cells.take(np.argsort(self.gene_order), axis=1)

    def fetch(self, batch: SampledBatch, first: int, count: int) -> np.ndarray:
        """The first `count` cells of a batch on the host, once it is done; Diverged if a value is not finite."""
        self.require_finite(batch, first, count)
        return np.asarray(batch.cells)[:count]

    def require_finite(self, batch: SampledBatch, first: int, count: int) -> None:
        """Diverged, with the steps at which it happened, if one of the first `count` cells is not finite."""
        finite_steps = np.asarray(batch.finite_steps)[:count]
        if np.any(finite_steps < self.evaluations):
            raise Diverged(self._divergence(finite_steps, first))

    def _divergence(self, finite_steps: np.ndarray, first: int) -> str:
        broken = np.flatnonzero(finite_steps < self.evaluations)
        low, high = int(finite_steps[broken].min()), int(finite_steps[broken].max())
        taus = self.coefficients.timestep
        steps = f"step {low + 1} (timestep {taus[low]})"
        if high > low:
            steps = f"steps {low + 1} to {high + 1} (timesteps {taus[low]} to {taus[high]})"
        return (
            f"{len(broken)} of cells {first} to {first + len(finite_steps) - 1} stopped being finite at {steps} of "
            f"{self.evaluations}; the model may have diverged (see metrics.jsonl), or the steps are too few for this "
            "solver: try --solver ddim --steps 100"
        )


def make_engine(
    model: Model,
    sampling: SamplingConfig,
    quotas: Quotas | None = None,
    *,
    devices: Sequence[jax.Device] | None = None,
    coefficients: Coefficients | None = None,
) -> Engine:
    """The engine for `sampling`; without a batch size in it, with the one that was measured to be fastest here.

    Without `quotas`, cells have no conditions. `devices` are all local ones among which the batch can be shared out
    evenly, unless they are given. `coefficients` take the place of those that `sampling` says. Raises BadConfig, naming
    the largest, where a batch does not fit in the devices' memory.
    """
    sampling = resolve_sampling(model, sampling)
    network, prediction = network_of(model)
    network = with_fastest_attention(network, body_dtype(sampling.dtype))
    if coefficients is None:
        coefficients = coefficients_for(model.config.diffusion, sampling, model)
    batch_size = sampling.batch_size or tuning.fastest_batch_size(model, sampling.dtype)
    placement = place(usable_devices(batch_size) if devices is None else devices)
    assignment = Assignment.of(quotas or Quotas.unlabelled(1))
    method = Method(find_solver(sampling.solver).draws, bool(np.any(coefficients.s > 0)))
    guided = guidance_of(model, sampling).columns
    program = make_program(
        Sampled(network, prediction, model.metadata.scaling, method, states_of(model), guided),
        _arguments(model, network, sampling, assignment, coefficients, placement),
        coefficients=coefficients,
        placement=placement,
        batch_size=batch_size,
    )
    gene_order = np.asarray(model.metadata.gene_order, np.int32)
    return Engine(program, assignment, gene_order if len(gene_order) else None)


def _arguments(
    model: Model,
    network: nn.Module,
    sampling: SamplingConfig,
    assignment: Assignment,
    coefficients: Coefficients,
    placement: Placement,
) -> tuple[Any, ...]:
    """The program's arguments but for the cells' own, on the devices."""
    on_each = placement.on_each
    timesteps = jax.device_put(coefficients.timestep.astype(np.int32), on_each)
    steps = jax.device_put(Coefficients(timesteps, *(c.astype(np.float32) for c in coefficients[1:])), on_each)
    seed = jax.device_put(np.uint32(sampling.seed), on_each)
    weights = guidance_of(model, sampling).weights
    params = jax.device_put(model.params, on_each)
    body, table = prepare(params, timesteps, network=network, dtype=sampling.dtype)
    conditions = jax.device_put(new_conditions(model, assignment.codes), on_each)
    guide = Guide(table, conditions=conditions)
    if (conditions.codes is not None or network.states) and sampling.guidance != 0:
        guidance = jax.device_put(np.array(weights, np.float32), on_each) if weights else None
        conditioning = conditioning_params(params, body_dtype(sampling.dtype))
        unconditional = weights and not isinstance(sampling.guidance, tuple)
        guide = Guide(table if unconditional else None, conditioning, guidance, conditions)
    return body, guide, steps, seed
