"""The settings of a run: its data, its network, its diffusion process, its training and its privacy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

from ..errors import BadConfig
from ..registry import NETWORKS, OBJECTIVES, PREDICTIONS
from .checks import BATCH, DTYPES, SEED, Choice, Real, Whole, check_fields, require, shown
from .data import DataConfig, GeneGroups, upgraded
from .privacy import PrivacyConfig
from .sampling import MOST_TIMESTEPS

# Bins of each gene, for a prediction that chooses among them, unless the settings of the data say how many.
QUANTILES = 12
LEARNING_RATE_SCHEDULES = ("constant", "cosine")
MOST_STEPS = 10**9
STEPS = Whole(1, MOST_STEPS)
ARCHITECTURE = Choice(NETWORKS)
# Of to_dict's JSON. Format 1, which has no such number, had the settings of all networks in one section.
FORMAT = 3
CONDITIONS = ("prior", "bootstrap")
# Training settings that may differ when a run is continued: with others it comes to the same model, or to rounding.
OPERATIONAL = ("accumulate", "evaluate_every", "patience", "checkpoint_every", "keep", "log_every")


class NetworkConfig(Protocol):
    """What every network's settings have; each network has a frozen dataclass of its own (see `networks`).

    `architecture` is the network's name, a field that is not given but fixed by the class. `gene_multiple` is what the
    number of genes must be a multiple of, `gene_groups` which neighbours it takes at once.
    """

    architecture: str

    @property
    def gene_multiple(self) -> int:
        """1 or more."""

    @property
    def gene_groups(self) -> GeneGroups:
        """Genes that are expressed together had better be in one group."""


def make_network_config(values: Mapping[str, Any], *, source: str = "network", strict: bool = True) -> NetworkConfig:
    """The settings of the network called `values["architecture"]` ("dit" without); unknown names raise BadConfig.

    Unless `strict`, settings of the other networks are left out.
    """
    require_mapping(values, source)
    values = dict(values)
    architecture = values.pop("architecture", "dit")
    try:
        ARCHITECTURE("architecture", architecture)
    except BadConfig as error:
        raise BadConfig(f"{source}: {error}") from None
    if not strict:
        others = {name for network in NETWORKS.values() for name in settings_of(network.config)}
        values = {n: v for n, v in values.items() if n not in others - set(settings_of(NETWORKS[architecture].config))}
    return _section(NETWORKS[architecture].config, values, source)


def _network(name: str, value: Any) -> NetworkConfig:
    architecture = getattr(value, "architecture", None)
    found = NETWORKS[architecture] if isinstance(architecture, str) and architecture in NETWORKS else None
    require(found is not None and isinstance(value, found.config), name, value, "the settings of a network")
    return value


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The forward process (eq. 2 to 5): `timesteps` T, linear betas, and what the network predicts."""

    timesteps: Annotated[int, Whole(2, MOST_TIMESTEPS)] = 1000
    beta_start: Annotated[float, Real(1e-6, 0.999)] = 1e-4  # below, 1 - abar_1 is lost in float32
    beta_end: Annotated[float, Real(0, 0.999, open_low=True)] = 0.02
    prediction: Annotated[str, Choice(PREDICTIONS)] = "epsilon"

    def __post_init__(self) -> None:
        check_fields(self)
        require(self.beta_start < self.beta_end, "beta_start", self.beta_start, f"below beta_end ({self.beta_end})")
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
    withheld from a conditional model, so that it can also predict without (Ho & Salimans 2022); `column_dropout` is
    that of each single column, and of the states, so that any subset of them can be asked for. States that it is
    conditioned on have normal noise added, of `state_noise` of their deviation over the training cells, in training and
    in sampling; `conditions` says what states of new cells come from: a learnt "prior", or training cells by
    "bootstrap", whose own states the model then holds. `loss` names what is
    minimised (training.objectives): the squared error of what is predicted (scRDiT eq. 10), or, of a prediction that is
    a distribution, minus its log-likelihood. An objective that has one learns from a `teacher`, the path of a run.

    `dtype` is what the network computes in (params and optimiser are float32 always); `accumulate`, in how many parts
    a batch is taken. Every `evaluate_every` epochs the model is evaluated on one half of the held-out cells (the other
    is for the final test), and after `patience` evaluations without a better one training ends. `keep` is how many of
    the newest checkpoints stay, beside the best.
    """

    steps: Annotated[int, STEPS] = 10_000
    batch_size: Annotated[int, BATCH] = 64
    loss: Annotated[str, Choice(OBJECTIVES)] = "squared-error"
    teacher: str | None = None
    learning_rate: Annotated[float, Real(0, 1e30, open_low=True)] = 3e-4
    learning_rate_schedule: Annotated[str, Choice(LEARNING_RATE_SCHEDULES)] = "constant"
    warmup_steps: Annotated[int, Whole(0, MOST_STEPS)] = 0
    weight_decay: Annotated[float, Real(0, 1e6)] = 0.01
    gradient_clip: Annotated[float | None, Real(0, 1e30, open_low=True)] = None
    ema_decay: Annotated[float | None, Real(0, 0.999999)] = None
    log_snr_mean: Annotated[float | None, Real(-100, 100)] = None
    log_snr_std: Annotated[float | None, Real(1e-3, 1000)] = None
    stratified_levels: bool = False
    label_dropout: Annotated[float, Real(0, 1)] = 0.1
    column_dropout: Annotated[float, Real(0, 1)] = 0.0
    state_noise: Annotated[float, Real(0, 10)] = 0.2
    conditions: Annotated[str, Choice(CONDITIONS)] = "prior"
    dtype: Annotated[str, Choice(DTYPES)] = "float32"
    accumulate: Annotated[int, BATCH] = 1
    evaluate_every: Annotated[float | None, Real(0, 1e9, open_low=True)] = None
    patience: Annotated[int | None, STEPS] = None
    checkpoint_every: Annotated[int, STEPS] = 1000
    keep: Annotated[int, STEPS] = 3
    log_every: Annotated[int, STEPS] = 50
    seed: Annotated[int, SEED] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.batch_size % self.accumulate:
            raise BadConfig(f"a batch of {self.batch_size} cells cannot be taken in {self.accumulate} equal parts")
        if self.patience is not None and self.evaluate_every is None:
            raise BadConfig("patience counts evaluations; say how often they are made with --evaluate-every")
        if (self.log_snr_mean is None) != (self.log_snr_std is None):
            raise BadConfig("log_snr_mean and log_snr_std go together; give both, or neither for uniform timesteps")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides what a run is; equal configs on equal data give equal models.

    `origin` is the digest of the model that the run trains further, None for a run of its own. A prediction that needs
    each gene's quantiles sets `data.quantiles` to QUANTILES, where that is 0; what differential privacy cannot be had
    with is left out of `training`.
    """

    data: DataConfig = field(default_factory=DataConfig)
    network: Annotated[NetworkConfig, _network] = field(default_factory=lambda: make_network_config({}))
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    origin: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        loss, prediction = self.training.loss, self.diffusion.prediction
        if PREDICTIONS[prediction].needs_quantiles and not self.data.quantiles:
            object.__setattr__(self, "data", dataclasses.replace(self.data, quantiles=QUANTILES))
        objective = OBJECTIVES[loss]
        if not objective.fits(PREDICTIONS[prediction]):
            fitting = " or ".join(name for name, known in PREDICTIONS.items() if objective.fits(known))
            others = " or ".join(n for n, known in OBJECTIVES.items() if known.fits(PREDICTIONS[prediction]))
            raise BadConfig(
                f"loss is {loss!r}, which a prediction of {prediction} does not have; use --prediction {fitting}, "
                f"or --loss {others}"
            )
        if objective.needs_teacher and self.training.teacher is None:
            raise BadConfig(f"loss {loss!r} learns from a teacher, and there is none; give a run as --teacher")
        if self.training.teacher is not None and not objective.needs_teacher:
            raise BadConfig(f"loss {loss!r} learns from no teacher; leave --teacher out, or use another --loss")
        if self.privacy.on:
            training = self.privacy.of_training(self.training, self.data, self.origin)
            object.__setattr__(self, "training", training)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        values = {"format": FORMAT} | dataclasses.asdict(self)
        if self.origin is None:
            del values["origin"]
        if not self.privacy.on:
            del values["privacy"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, source: str = "config") -> RunConfig:
        """The inverse of `to_dict`, for former formats too. Unknown names and wrong values raise BadConfig and name
        `source`."""
        require_mapping(values, source)
        values = dict(values)
        version, origin = values.pop("format", 1), values.pop("origin", None)
        if type(version) is not int or not 1 <= version <= FORMAT:
            raise BadConfig(
                f"{source}: format {shown(version)} is not known here (1 to {FORMAT} are); update scrdit_jax"
            )
        _require_known(values, SECTIONS, source)
        network = values.pop("network", {})
        if version < FORMAT and isinstance(values.get("data"), Mapping):
            values["data"] = upgraded(values["data"])
        sections = {n: _section(SECTIONS[n], section, f"{source}: {n}") for n, section in values.items()}
        network = make_network_config(network, source=f"{source}: network", strict=version > 1)
        try:
            return cls(network=network, origin=origin, **sections)
        except BadConfig as error:
            raise BadConfig(f"{source}: {error}") from None

    def replace(self, changes: Mapping[str, Mapping[str, Any]]) -> RunConfig:
        """A copy with `{"training": {"steps": 5}, ...}` changed; unknown names raise BadConfig.

        Another architecture keeps what both networks have in common.
        """
        merged = self.to_dict()
        architecture = changes.get("network", {}).get("architecture", self.network.architecture)
        if architecture != self.network.architecture:
            ARCHITECTURE("architecture", architecture)
            kept = settings_of(NETWORKS[architecture].config)
            merged["network"] = {name: value for name, value in merged["network"].items() if name in kept}
        for section, values in changes.items():
            merged.setdefault(section, {}).update(values)
        return RunConfig.from_dict(merged, source="settings")

    def with_settings(self, changes: Mapping[str, Any]) -> RunConfig:
        """A copy with settings changed by bare name, in every section that has the name (`seed` is in two)."""
        architecture = changes.get("architecture", self.network.architecture)
        ARCHITECTURE("architecture", architecture)
        network = ("architecture", *settings_of(NETWORKS[architecture].config))
        names = {n: network if n == "network" else settings_of(section) for n, section in SECTIONS.items()}
        for name in changes:
            if not any(name in section for section in names.values()):
                known = sorted({known for section in names.values() for known in section})
                raise BadConfig(f"no setting is called {shown(name)}; there are {', '.join(known)}")
        return self.replace({s: {n: v for n, v in changes.items() if n in section} for s, section in names.items()})

    def differences_to(self, earlier: RunConfig) -> list[str]:
        """What keeps this config from continuing a run of an `earlier` one; empty where nothing does.

        More steps may be asked for where neither learning rate nor noise depends on how many there are.
        """
        free = {"privacy.dp_microbatch", *(f"training.{name}" for name in OPERATIONAL)}
        longer = self.training.steps > earlier.training.steps
        # The noise is what so many steps need.
        if longer and self.training.learning_rate_schedule == "constant" and not self.privacy.on:
            free.add("training.steps")
        return [line for line in self.differences(earlier) if line.partition(":")[0] not in free]

    def differences(self, other: RunConfig) -> list[str]:
        """Lines such as 'training.steps: 100 here, 200 there', empty when equal."""
        here, there = dataclasses.asdict(self), dataclasses.asdict(other)
        origins = here.pop("origin"), there.pop("origin")
        of_origin = [f"origin: {origins[0]!r} here, {origins[1]!r} there"] if origins[0] != origins[1] else []
        return of_origin + [
            f"{section}.{name}: {value!r} here, {there[section][name]!r} there"
            for section, values in here.items()
            for name, value in values.items()
            # What only one of two networks has is no difference beside that of the architectures.
            if name in there[section] and value != there[section][name]
        ]


SECTIONS: dict[str, Any] = {
    "data": DataConfig,
    "network": NetworkConfig,
    "diffusion": DiffusionConfig,
    "training": TrainingConfig,
    "privacy": PrivacyConfig,
}


def settings_of(config: Any) -> list[str]:
    """The names of what a config of this class is made of."""
    return [f.name for f in dataclasses.fields(config) if f.init]


def require_mapping(values: Any, source: str) -> None:
    """BadConfig unless the JSON `values` are an object."""
    if not isinstance(values, Mapping):
        raise BadConfig(f"{source}: a JSON object is expected, not {type(values).__name__}")


def _require_known(values: Any, known: Collection[str], source: str) -> None:
    require_mapping(values, source)
    for name in values:
        if name not in known:
            raise BadConfig(f"{source}: unknown name {shown(name)}; there are {', '.join(known)}")


def _section(config: Any, values: Any, source: str) -> Any:
    _require_known(values, settings_of(config), source)
    try:
        return config(**values)
    except BadConfig as error:
        raise BadConfig(f"{source}: {error}") from None
