"""Settings as data: the presets that ship with the package, and files of the same form."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .. import strict_json
from ..errors import BadConfig
from .checks import shown, text
from .run_config import RunConfig

MOST_BYTES = 10_000_000
PRESET_FOLDER = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.json"))


def preset_path(name_or_path: str | Path) -> Path:
    """Where a preset lies: a shipped name, or the path of a JSON file of the same form."""
    name = text("preset", str(name_or_path) if isinstance(name_or_path, Path) else name_or_path)
    if name in preset_names():
        return PRESET_FOLDER / f"{name}.json"
    path = Path(name)
    with contextlib.suppress(OSError):  # a name that is too long, for example
        if path.suffix == ".json" and path.exists():
            return path
    raise BadConfig(f"no preset {shown(name)}; there are {', '.join(preset_names())}, or give a .json file")


def load_preset(name_or_path: str | Path) -> RunConfig:
    """Give a preset as a checked RunConfig.

    Parameters
    ----------
    name_or_path
        A name that ships, such as "demo", or the path of a .json file of the same form.

    Raises
    ------
    BadConfig

    Examples
    --------
    >>> scrdit.load_preset("demo").training.steps
    1000
    """
    path = preset_path(name_or_path)
    try:
        values = strict_json.read(path, most_bytes=MOST_BYTES)
    except OSError as error:
        raise BadConfig(f"{path} cannot be read ({error.strerror}); see {preset_path('base')} for the form") from None
    except ValueError as error:
        raise BadConfig(f"{path} is not JSON ({error}); see {preset_path('base')} for the form") from None
    return RunConfig.from_dict(values, source=str(path))
