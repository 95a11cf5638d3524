"""The settings that the public functions take as keywords, with their types, so that editors complete them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


class SettingChanges(TypedDict, total=False):
    """Settings of a run that may be changed by name; what each means stands in `scrdit_jax.config`."""

    # data
    normalize: str
    target_sum: float
    genes: int
    gene_selection: str
    min_cells: int
    gene_order: str
    zero_value: float | None
    standardize: bool
    held_out: float
    donor_key: str | None
    cell_type_key: str | None
    cell_types: Sequence[str]
    condition_on: Sequence[str]
    derive: Mapping[str, int]
    least_reproduced: float
    clip: bool
    quantiles: int
    # network
    architecture: str
    genes_per_token: int
    fill_tokens: bool
    rare_share: float
    genes_per_rare_token: int | None
    width: int
    depth: int
    heads: int
    mlp_ratio: float
    summary_token: bool
    summary_rank: int | None
    positions: str
    first_timestep: int
    channels: int
    # diffusion
    timesteps: int
    beta_start: float
    beta_end: float
    prediction: str
    # training
    steps: int
    batch_size: int
    loss: str
    teacher: str | None
    learning_rate: float
    learning_rate_schedule: str
    warmup_steps: int
    weight_decay: float
    gradient_clip: float | None
    ema_decay: float | None
    log_snr_mean: float | None
    log_snr_std: float | None
    stratified_levels: bool
    label_dropout: float
    column_dropout: float
    state_noise: float
    conditions: str
    dtype: str
    accumulate: int
    evaluate_every: float | None
    patience: int | None
    checkpoint_every: int
    keep: int
    log_every: int
    seed: int
    # privacy
    dp_epsilon: float | None
    dp_delta: float | None
    dp_clip: float
    dp_cells: int
    dp_microbatch: int | None


class SamplerOptions(TypedDict, total=False):
    """How cells are sampled, whatever they are written as; see SamplingOptions."""

    solver: str | None
    steps: int | None
    acceleration: float | None
    schedule: str | None
    eta: float | None
    variance: str | None
    seed: int | None
    batch_size: int | None
    dtype: str | None
    guidance: float | Mapping[str, float] | None
    depth: float | None


class SamplingOptions(SamplerOptions, total=False):
    """How cells are sampled; what each means stands in `scrdit_jax.config.SamplingConfig`. None: the default."""

    output: str | None


class SimulationOptions(SamplerOptions, total=False):
    """What is planted in cells, which always have counts, and how they are sampled; what each means stands in
    `scrdit_jax.config.SimulationConfig` and `SamplingConfig`. None: the default."""

    groups: int | None
    de_share: float | None
    log2_fold_change: float | Sequence[float] | None
    up_share: float | None
    de_by: str | None
    de_cell_types: Sequence[str] | None
    batches: int | None
    batch_share: float | None
    batch_strength: float | None
    batch_depth: float | None
    depth_factor: float | None
    doublets: float | None
    ambient: float | None
    effects_seed: int | None
    schema: str | None


def with_keywords(options: type) -> Callable[[F], F]:
    """Show the keys of a TypedDict as keyword arguments in a function's signature, for `help` and for completion.

    The function takes them as `**keywords: Unpack[options]`, which type checkers understand by themselves.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        kept = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        kind = inspect.Parameter.KEYWORD_ONLY
        added = [
            inspect.Parameter(name, kind, default=None, annotation=annotation)
            for name, annotation in get_type_hints(options).items()
        ]
        function.__signature__ = signature.replace(parameters=[*kept, *added])  # type: ignore[attr-defined]
        return function

    return decorate
