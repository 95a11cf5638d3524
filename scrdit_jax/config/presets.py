"""Settings as data: the presets that ship with the package, and files of the same form."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import BadConfig
from ..paths import usable_name
from .run_config import RunConfig

PRESET_FOLDER = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.json"))


def preset_path(name_or_path: str) -> Path:
    """Where a preset lies: a shipped name, or the path of a JSON file of the same form."""
    usable_name(name_or_path)
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
