"""Frozen settings that check themselves, the presets, and their JSON. A config that exists is valid."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BadConfig
from .registry import DERIVED

PRESET_FOLDER = Path(__file__).parent / "presets"

NORMALIZATIONS = ("auto", "log1p", "none")
GENE_SELECTIONS = ("hvg", "cv", "all")
PREDICTIONS = ("epsilon", "v", "zero-inflated")
# Those that say how a clean gene is distributed, and not only its mean.
DISTRIBUTIONS = ("zero-inflated",)
ARCHITECTURES = ("dit", "unet")
POSITIONS = ("sincos", "learned")
LEARNING_RATE_SCHEDULES = ("constant", "cosine")
LOSSES = ("squared-error", "likelihood")
DTYPES = ("float32", "bfloat16")
OUTPUTS = ("log", "counts")
# Training settings that may differ when a run is continued: with others it comes to the same model, or to rounding.
OPERATIONAL = ("accumulate", "evaluate_every", "patience", "checkpoint_every", "keep", "log_every")
UNET_HALVINGS = 3


def _require(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise BadConfig(f"{name} is {value!r}; it must be {rule}")


def _require_whole(name: str, value: object, minimum: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= minimum
    _require(whole, name, value, f"a whole number, {minimum} or more")


def _require_real(name: str, value: object, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    inside = number and (low < value if open_low else low <= value) and value <= high
    above = f"above {low:g}" if open_low else f"{low:g} or more"
    _require(inside, name, value, f"a number {above}" + ("" if math.isinf(high) else f" and at most {high:g}"))


def _require_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    _require(value in choices, name, value, "one of " + ", ".join(choices))


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """How cells become training vectors. Genes are counted after selection; `held_out` is a share of cells.

    `condition_on` are columns of obs that the model is conditioned on, and whose categories can be asked for. `derive`
    are variables that are found in the cells, conditioned on too, and drawn for each new cell, with how many of each:
    {"clusters": 32, "detected-genes": 8, "pc-scores": 20} (see conditioning.derived). With `clip`, an expressed gene of
    a new cell keeps within what training cells have of that gene.
    """

    normalize: str = "auto"
    target_sum: float = 10_000.0
    genes: int = 2000
    gene_selection: str = "hvg"
    min_cells: int = 10
    zero_value: float | None = -10.0
    standardize: bool = True
    held_out: float = 0.2
    cell_type_key: str | None = None
    cell_types: tuple[str, ...] = ()
    condition_on: tuple[str, ...] = ()
    derive: Mapping[str, int] | tuple[tuple[str, int], ...] = ()
    clip: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cell_types", tuple(self.cell_types))
        object.__setattr__(self, "condition_on", tuple(self.condition_on))
        object.__setattr__(self, "derive", _pairs(self.derive))
        _require_choice("normalize", self.normalize, NORMALIZATIONS)
        _require_choice("gene_selection", self.gene_selection, GENE_SELECTIONS)
        _require_real("target_sum", self.target_sum, 0, open_low=True)
        _require_whole("genes", self.genes, 1)
        _require_whole("min_cells", self.min_cells, 0)
        for kind, count in self.derive:
            _require_choice("derive", kind, tuple(DERIVED))
            _require_whole(f"derive of {kind}", count, 1)
        _require(isinstance(self.clip, bool), "clip", self.clip, "true or false")
        _require_whole("seed", self.seed, 0)
        if self.zero_value is not None:
            _require_real("zero_value", self.zero_value, -1e6, 0)
        _require_real("held_out", self.held_out, 0, 0.9)
        if len(set(self.condition_on)) < len(self.condition_on):
            raise BadConfig(f"condition_on names a column twice ({', '.join(self.condition_on)}); name each once")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DataConfig:
        """From plain values, those of format 1 included."""
        return cls(**_data_of_format_1(values))


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What predicts. `architecture` "dit" is the diffusion transformer (scRDiT fig. 2; Peebles & Xie 2023); `width` and
    `depth` are of its blocks. "unet" is the one-dimensional UNet the paper compares with, of `channels` at full length
    to 8 times as many at its shortest; of the rest it uses `heads` alone. Tokens have fixed sines and cosines as
    `positions`, or learn them from there. `first_timestep`, 0 or 1, is what the network takes the first for."""

    architecture: str = "dit"
    genes_per_token: int = 10
    width: int = 768
    depth: int = 3
    heads: int = 8
    mlp_ratio: float = 4.0
    summary_token: bool = False
    positions: str = "sincos"
    first_timestep: int = 1
    channels: int = 64

    @property
    def gene_multiple(self) -> int:
        """What the number of genes must be a multiple of: genes a token, or 8 for a UNet that halves it three times."""
        return self.genes_per_token if self.architecture == "dit" else 2**UNET_HALVINGS

    def __post_init__(self) -> None:
        _require_choice("architecture", self.architecture, ARCHITECTURES)
        _require_choice("positions", self.positions, POSITIONS)
        _require(self.first_timestep in (0, 1), "first_timestep", self.first_timestep, "0 or 1")
        for name in ("genes_per_token", "width", "depth", "heads", "channels"):
            _require_whole(name, getattr(self, name), 1)
        _require_real("mlp_ratio", self.mlp_ratio, 0, open_low=True)
        _require(self.width % self.heads == 0, "width", self.width, f"a multiple of heads ({self.heads})")
        _require(self.width % 2 == 0, "width", self.width, "even (half sines, half cosines)")
        if self.architecture == "unet":
            shared = 2 * self.channels % self.heads == 0
            _require(shared, "channels", self.channels, f"such that heads ({self.heads}) divide twice as many")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The forward process (eq. 2 to 5): `timesteps` T, linear betas, and what the network predicts."""

    timesteps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: str = "epsilon"

    def __post_init__(self) -> None:
        _require_whole("timesteps", self.timesteps, 2)
        _require_real("beta_start", self.beta_start, 1e-6)  # below, 1 - abar_1 is lost in float32
        _require_real("beta_end", self.beta_end, 0, 0.999, open_low=True)
        _require(self.beta_start < self.beta_end, "beta_start", self.beta_start, f"below beta_end ({self.beta_end})")
        _require_choice("prediction", self.prediction, PREDICTIONS)
        rise = (self.beta_end - self.beta_start) / (self.timesteps - 1)
        last = math.prod(1 - self.beta_start - t * rise for t in range(self.timesteps))
        if not 1e-10 < last < 0.1:
            remedy = "raise" if last >= 0.1 else "lower"
            raise BadConfig(
                f"alpha-bar at the last timestep is {last:.1e}; sampling starts from pure noise, so it must lie within "
                f"1e-10..0.1: {remedy} beta_end or timesteps"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """One run of the optimiser. `log_snr_mean`/`log_snr_std` draw noise levels from a normal over log-SNR;
    without them timesteps are uniform (paper, section 2.4). `label_dropout` is the share of cells whose labels are
    withheld from a conditional model, so that it can also predict without (Ho & Salimans 2022). `loss` is the squared
    error of what is predicted (scRDiT eq. 10), or, of a prediction that is a distribution, minus its log-likelihood.

    `dtype` is what the network computes in (params and optimiser are float32 always); `accumulate`, in how many parts
    a batch is taken. Every `evaluate_every` epochs the held-out cells are looked at, and after `patience` looks without
    a better one training ends. `keep` is how many of the newest checkpoints stay, beside the best.
    """

    steps: int = 10_000
    batch_size: int = 64
    loss: str = "squared-error"
    learning_rate: float = 3e-4
    learning_rate_schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.01
    gradient_clip: float | None = None
    ema_decay: float | None = None
    log_snr_mean: float | None = None
    log_snr_std: float | None = None
    stratified_levels: bool = False
    label_dropout: float = 0.1
    dtype: str = "float32"
    accumulate: int = 1
    evaluate_every: float | None = None
    patience: int | None = None
    checkpoint_every: int = 1000
    keep: int = 3
    log_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "keep", "log_every"):
            _require_whole(name, getattr(self, name), 1)
        for name in ("warmup_steps", "seed"):
            _require_whole(name, getattr(self, name), 0)
        _require_real("learning_rate", self.learning_rate, 0, open_low=True)
        _require_choice("loss", self.loss, LOSSES)
        _require_choice("learning_rate_schedule", self.learning_rate_schedule, LEARNING_RATE_SCHEDULES)
        _require_real("weight_decay", self.weight_decay, 0)
        _require_real("label_dropout", self.label_dropout, 0, 1)
        if self.gradient_clip is not None:
            _require_real("gradient_clip", self.gradient_clip, 0, open_low=True)
        if self.ema_decay is not None:
            _require_real("ema_decay", self.ema_decay, 0, 0.999999)
        _require_choice("dtype", self.dtype, DTYPES)
        if self.batch_size % self.accumulate:
            raise BadConfig(f"a batch of {self.batch_size} cells cannot be taken in {self.accumulate} equal parts")
        if self.evaluate_every is not None:
            _require_real("evaluate_every", self.evaluate_every, 0, open_low=True)
        if self.patience is not None:
            _require_whole("patience", self.patience, 1)
            if self.evaluate_every is None:
                raise BadConfig("patience counts evaluations; say how often they are made with --evaluate-every")
        if (self.log_snr_mean is None) != (self.log_snr_std is None):
            raise BadConfig("log_snr_mean and log_snr_std go together; give both, or neither for uniform timesteps")
        if self.log_snr_std is not None:
            _require_real("log_snr_mean", self.log_snr_mean, -100, 100)
            _require_real("log_snr_std", self.log_snr_std, 0, open_low=True)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run is; equal configs on equal data give equal models."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        if self.training.loss == "likelihood" and self.diffusion.prediction not in DISTRIBUTIONS:
            raise BadConfig(
                f"loss is 'likelihood', and a prediction of {self.diffusion.prediction} has none; use --prediction "
                f"{DISTRIBUTIONS[0]}, or --loss squared-error"
            )

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "config") -> RunConfig:
        """The inverse of `to_dict`. Unknown names and wrong values raise BadConfig and name `source`."""
        sections = {f.name: f.default_factory for f in dataclasses.fields(cls)}
        _check_names(values, sections, source)
        if isinstance(values.get("data"), Mapping):
            values = {**values, "data": _data_of_format_1(values["data"])}
        return cls(
            **{name: _section(kind, values.get(name, {}), f"{source}: {name}") for name, kind in sections.items()}
        )

    def replace(self, changes: Mapping[str, Mapping[str, Any]]) -> RunConfig:
        """A copy with `{"training": {"steps": 5}, ...}` changed; unknown names raise BadConfig."""
        merged = self.to_dict()
        for section, values in changes.items():
            merged.setdefault(section, {}).update(values)
        return RunConfig.from_dict(merged, source="settings")

    def with_settings(self, changes: Mapping[str, Any]) -> RunConfig:
        """A copy with settings changed by bare name, in every section that has the name (`seed` is in two)."""
        sections = {f.name: dataclasses.fields(f.default_factory) for f in dataclasses.fields(self)}
        found = {name: [s for s, fields in sections.items() if name in {f.name for f in fields}] for name in changes}
        for name, where in found.items():
            if not where:
                known = sorted({f.name for fields in sections.values() for f in fields})
                raise BadConfig(f"no setting is called {name!r}; there are {', '.join(known)}")
        return self.replace({s: {n: changes[n] for n, where in found.items() if s in where} for s in sections})

    def differences_to(self, begun: RunConfig) -> list[str]:
        """What keeps this config from continuing a run that was `begun` with another; empty where nothing does.

        More steps may be asked for where the learning rate does not depend on how many there are.
        """
        free = {f"training.{name}" for name in OPERATIONAL}
        if self.training.steps > begun.training.steps and self.training.learning_rate_schedule == "constant":
            free.add("training.steps")
        return [line for line in self.differences(begun) if line.partition(":")[0] not in free]

    def differences(self, other: RunConfig) -> list[str]:
        """Lines such as 'training.steps: 100 here, 200 there', empty when equal."""
        here, there = self.to_dict(), other.to_dict()
        return [
            f"{section}.{name}: {value!r} here, {there[section][name]!r} there"
            for section, values in here.items()
            for name, value in values.items()
            if value != there[section][name]
        ]


def _pairs(derive: Any) -> tuple[tuple[str, int], ...]:
    pairs = derive.items() if isinstance(derive, Mapping) else derive
    try:
        return tuple((str(kind), count) for kind, count in pairs)
    except (TypeError, ValueError):
        raise BadConfig(f'derive is {derive!r}; write it as {{"clusters": 32, "pc-scores": 20}}') from None


def _data_of_format_1(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the data with `derive` where they were saved, or written by hand, with `groups` and `components`."""
    values = dict(values)
    groups, components = values.pop("groups", 0), values.pop("components", 0)
    if groups:
        pc_scores = {"pc-scores": components} if components else {}
        values["derive"] = {"clusters": groups, "detected-genes": 8, **pc_scores}
    return values


def _check_names(values: Any, known: Collection[str], source: str) -> None:
    if not isinstance(values, Mapping):
        raise BadConfig(f"{source}: a JSON object is expected, not {type(values).__name__}")
    for name in values:
        if name not in known:
            raise BadConfig(f"{source}: unknown name {name!r}; there are {', '.join(known)}")


def _section(kind: Any, values: Any, source: str) -> Any:
    _check_names(values, [f.name for f in dataclasses.fields(kind)], source)
    try:
        return kind(**values)
    except BadConfig as error:
        raise BadConfig(f"{source}: {error}") from None


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.json"))


def preset_path(name_or_path: str) -> Path:
    """Where a preset lies: a shipped name, or the path of a JSON file of the same form."""
    shipped = PRESET_FOLDER / f"{name_or_path}.json"
    if shipped.is_file():
        return shipped
    path = Path(name_or_path)
    if path.suffix == ".json" and path.is_file():
        return path
    raise BadConfig(f"no preset {name_or_path!r}; there are {', '.join(preset_names())}, or give a .json file")


def load_preset(name_or_path: str) -> RunConfig:
    """The preset as a checked RunConfig."""
    path = preset_path(name_or_path)
    try:
        values = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is not JSON ({error}); see {preset_path('base')} for the form") from None
    return RunConfig.from_dict(values, source=str(path))


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How cells are drawn from a trained run. `steps` is the exact number of network evaluations a cell.

    What is None is settled for the model at hand (generation.settling): the solver by what it predicts; steps by a
    schedule file, or as many as the solver needs; the schedule, timesteps fitted to the model if it carries them; the
    dtype, bfloat16 on GPUs and TPUs. Without a batch size: the one that is fastest on the devices at hand. `guidance` W
    of a conditional model: predicted clean cells are uncond + W (cond - uncond); 1, as asked, costs one evaluation a
    step, as does 0, which ignores the labels; any other costs two. `output` "counts" adds counts as a layer, `depth` is
    every cell's library size in them.
    """

    solver: str | None = None
    steps: int | None = None
    acceleration: float | None = None
    schedule: str | None = None
    eta: float | None = None
    variance: str | None = None
    seed: int = 0
    batch_size: int | None = None
    dtype: str | None = None
    guidance: float = 1.0
    output: str = "log"
    depth: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            _require_whole("steps", self.steps, 1)
            if self.acceleration is not None:
                raise BadConfig("steps and acceleration both say how many evaluations to use; give one of them")
        if self.acceleration is not None:
            _require_real("acceleration", self.acceleration, 1)
        if self.eta is not None:
            _require_real("eta", self.eta, 0, 1)
        _require_whole("seed", self.seed, 0)
        if self.batch_size is not None:
            _require_whole("batch_size", self.batch_size, 1)
        if self.dtype is not None:
            _require_choice("dtype", self.dtype, DTYPES)
        _require_real("guidance", self.guidance, 0, 100)
        _require_choice("output", self.output, OUTPUTS)
        if self.depth is not None:
            _require_real("depth", self.depth, 0, 1e9, open_low=True)
            if self.output != "counts":
                raise BadConfig("a depth is for counts; add --output counts")
