"""The programs that are compiled: the sampler and the training step of a preset, of shapes alone, without weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from scrdit_jax.conditioning.prior import Mixture
from scrdit_jax.config import RunConfig, SamplingConfig, load_preset
from scrdit_jax.data.batches import Batch
from scrdit_jax.data.scaling import Scaling
from scrdit_jax.diffusion.predictions import Prediction, make_prediction
from scrdit_jax.generation.conditions import NewConditions, States
from scrdit_jax.generation.program import Guide, Method, Sampled, place, prepare, sample_batch
from scrdit_jax.generation.quantisation import body_dtype
from scrdit_jax.generation.settings import coefficients_for
from scrdit_jax.networks import conditioning_params, flops_per_evaluation, make_network
from scrdit_jax.sampling.solvers import Coefficients
from scrdit_jax.training.parallel import DEVICES
from scrdit_jax.training.state import initial_state
from scrdit_jax.training.step import make_step

# What a model of real cells has beside its preset: the components of a prior, and where zeros and values lie.
COMPONENTS = 192
TARGET_SUM, STATE_NOISE = 1e4, 0.2
RANGE = (0.3, 6.0)


@dataclass(frozen=True)
class Described:
    """A preset at so many genes: its config, what its states are, and the scale of its cells."""

    name: str
    config: RunConfig
    genes: int

    @property
    def states(self) -> int:
        """Numbers of a cell's state."""
        return sum(number for _, number in self.config.data.derive)

    @property
    def scaling(self) -> Scaling:
        """One for all genes, as far as compiling goes."""
        data = self.config.data
        return Scaling(data.zero_value, 0.0, 1.0, (RANGE,) * self.genes if data.clip else None)

    @property
    def prediction(self) -> Prediction:
        """What the network says of a gene."""
        return make_prediction(self.config.diffusion.prediction, self.scaling)

    def network(self, attention: str) -> nn.Module:
        """The network, with this attention."""
        outputs = self.prediction.outputs
        return make_network(self.config.network, self.genes, outputs, states=self.states).clone(attention=attention)

    @property
    def flops(self) -> int:
        """Of one evaluation of one cell."""
        return flops_per_evaluation(self.network("xla"))

    @property
    def params(self) -> Any:
        """The shapes of the network's params, float32."""
        network = self.network("xla")
        cells, timesteps = jnp.zeros((1, self.genes)), jnp.ones(1, jnp.int32)
        states = jnp.zeros((1, self.states)) if self.states else None
        return jax.eval_shape(lambda: network.init(jax.random.key(0), cells, timesteps, None, states))


def described(name: str) -> Described:
    """A preset by its name, at 2,000 genes; `transcriptome` at 20,000."""
    return Described(name, load_preset(name), 20_000 if name == "transcriptome" else 2000)


def _on(shapes: Any, sharding: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)


def sampler(
    preset: Described, devices: Sequence[Any], batch_size: int, evaluations: int, *, dtype: str, attention: str
) -> Any:
    """The sampler of `batch_size` cells over `devices`, lowered: 20 evaluations or so of DDIM, or drawn clean cells."""
    placement, network = place(devices), preset.network(attention)
    drawn = preset.prediction.is_distribution
    sampling = SamplingConfig(steps=evaluations, solver=None if drawn else "ddim")
    table = coefficients_for(preset.config.diffusion, sampling)
    steps = Coefficients(table.timestep.astype(np.int32), *(column.astype(np.float32) for column in table[1:]))
    params = preset.params
    weights, modulations = jax.eval_shape(
        partial(prepare, network=network, dtype=dtype), params, jnp.ones(evaluations, jnp.int32)
    )
    guide = Guide(modulations)
    states = States(0, 0.0, None, None)
    if preset.states:
        conditioning = jax.eval_shape(partial(conditioning_params, dtype=body_dtype(dtype)), params)
        guide = Guide(None, conditioning, None, NewConditions(None, _prior(preset.states), np.zeros(1, np.int32)))
        states = States(preset.states, STATE_NOISE, (preset.states - 1, 8.0, 0.5), TARGET_SUM)
    method = Method(drawn, bool(np.any(table.s > 0)))
    sampled = Sampled(network, preset.prediction, preset.scaling, method, states)
    return sample_batch.lower(
        *_on((weights, guide, steps, np.uint32(0)), placement.on_each),
        *_on((np.zeros(batch_size, np.uint32), np.zeros(batch_size, np.int32)), placement.shared_out),
        _on(jax.ShapeDtypeStruct((batch_size, preset.genes), np.float32), placement.shared_out),
        sampled=sampled,
        mesh=placement.shared_out.mesh,
    )


def _prior(states: int) -> Mixture:
    shape = partial(jax.ShapeDtypeStruct, dtype=np.float32)
    return Mixture(shape((1, COMPONENTS)), shape((COMPONENTS, states)), shape((COMPONENTS, states, states)))


def training_step(preset: Described, devices: Sequence[Any], batch_size: int, *, dtype: str, attention: str) -> Any:
    """A step on `batch_size` cells in all, each of `devices` with its share, lowered as `parallelise` has it."""
    config = preset.config.with_settings({"dtype": dtype, "batch_size": batch_size})
    network = preset.network(attention)
    step = make_step(network, config, preset.scaling, axis_name=DEVICES)
    state = jax.eval_shape(lambda: initial_state(preset.network("xla"), preset.genes, config.training))
    mesh = Mesh(np.asarray(devices), (DEVICES,))
    alike, shared = PartitionSpec(), PartitionSpec(DEVICES)
    mapped = jax.shard_map(step, mesh=mesh, in_specs=(alike, shared), out_specs=alike, check_vma=False)
    shape = partial(jax.ShapeDtypeStruct, dtype=np.float32)
    batch = Batch(
        shape((batch_size, preset.genes)),
        states=shape((batch_size, preset.states)) if preset.states else None,
        log_sizes=shape((batch_size,)) if preset.prediction.needs_library_size else None,
    )
    return jax.jit(mapped, donate_argnums=0).lower(
        _on(state, NamedSharding(mesh, alike)), _on(batch, NamedSharding(mesh, shared))
    )
