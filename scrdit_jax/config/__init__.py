"""Frozen settings that check themselves, the presets, and their JSON. A config that exists is valid."""

from .checks import DTYPES, SAMPLING_DTYPES
from .data import GENE_ORDERS, GENE_SELECTIONS, NORMALIZATIONS, DataConfig, GeneGroups
from .presets import PRESET_FOLDER, load_preset, preset_names, preset_path
from .privacy import NO_NOISE, PrivacyConfig
from .run_config import (
    CONDITIONS,
    OPERATIONAL,
    DiffusionConfig,
    NetworkConfig,
    RunConfig,
    TrainingConfig,
)
from .sampling import OUTPUTS, SamplingConfig
from .simulation import SCHEMAS, SimulationConfig

__all__ = [
    "CONDITIONS",
    "DTYPES",
    "GENE_ORDERS",
    "GENE_SELECTIONS",
    "NORMALIZATIONS",
    "NO_NOISE",
    "OPERATIONAL",
    "OUTPUTS",
    "PRESET_FOLDER",
    "SAMPLING_DTYPES",
    "SCHEMAS",
    "DataConfig",
    "DiffusionConfig",
    "GeneGroups",
    "NetworkConfig",
    "PrivacyConfig",
    "RunConfig",
    "SamplingConfig",
    "SimulationConfig",
    "TrainingConfig",
    "load_preset",
    "preset_names",
    "preset_path",
]
