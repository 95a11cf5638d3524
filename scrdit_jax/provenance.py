"""What made synthetic cells: the record that goes with them into every file, and its one parser."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import strict_json
from .conditioning.variables import Variable
from .config import RunConfig
from .data.metadata import DatasetMetadata
from .errors import BadInput, OutputExists, ScrditError
from .io.reading import read_part
from .paths import readable_path
from .privacy import PrivacyRecord
from .records import checked

KEY = "scrdit"
FORMAT = 2
# What makes cells the ones that were asked for; the rest follows from it.
COMPARED = ("cells", "quotas", "sampling", "timesteps", "models")


@dataclass(frozen=True)
class ModelRecord:
    """A model that made cells: the digest of its weights and settings, what it was trained on, and with what
    differential privacy (None: without)."""

    digest: str
    step: int
    config: RunConfig
    metadata: DatasetMetadata
    privacy: PrivacyRecord | None = None

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values."""
        plain = {"config": self.config.to_dict(), "metadata": self.metadata.to_dict()}
        privacy = {} if self.privacy is None else {"privacy": self.privacy.to_dict()}
        return {"digest": self.digest, "step": self.step, **plain, **privacy}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelRecord:
        """The inverse of `to_dict`."""
        config = RunConfig.from_dict(values["config"])
        privacy = PrivacyRecord.from_dict(values["privacy"]) if "privacy" in values else None
        metadata = DatasetMetadata.from_dict(values["metadata"])
        return checked(cls(values["digest"], values["step"], config, metadata, privacy))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What made `cells` cells: `quotas` [{"labels": [category, ...], "cells": n}, ...] over the observed `variables`
    (None: left out), all `sampling` options, the `timesteps`, evaluations a cell, and the `models`: one, or of a family
    one a type."""

    cells: int
    quotas: tuple[Mapping[str, Any], ...]
    variables: tuple[Variable, ...]
    sampling: Mapping[str, Any]
    timesteps: tuple[int, ...]
    network_evaluations: int
    models: tuple[ModelRecord, ...]
    version: str
    format: int = FORMAT

    @property
    def metadata(self) -> DatasetMetadata:
        """That of the first model; models of a family have the same genes and scaling."""
        return self.models[0].metadata

    @property
    def cell_types(self) -> set[str]:
        """The cell types that the models were trained on."""
        return {name for model in self.models for name in model.metadata.cell_types}

    def requested(self, variable: str) -> dict[str, int] | None:
        """How many cells of each category of the observed `variable` were asked for, but for those without one; None
        where it is not one."""
        names = [known.name for known in self.variables]
        if variable not in names:
            return None
        found: dict[str, int] = {}
        for entry in self.quotas:
            category = entry["labels"][names.index(variable)]
            if category is not None:
                found[category] = found.get(category, 0) + entry["cells"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for JSON."""
        return {
            "format": self.format,
            "version": self.version,
            "cells": self.cells,
            "quotas": [dict(entry) for entry in self.quotas],
            "variables": [variable.to_dict() for variable in self.variables],
            "sampling": dict(self.sampling),
            "timesteps": list(self.timesteps),
            "network_evaluations": self.network_evaluations,
            "models": [model.to_dict() for model in self.models],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Provenance:
        """The inverse of `to_dict`, also after a trip through JSON; ValueError for another format."""
        if values["format"] != FORMAT:
            raise ValueError(f"provenance of format {values['format']}, not {FORMAT}")
        nested = {
            "quotas": tuple(values["quotas"]),
            "variables": tuple(map(Variable.from_dict, values["variables"])),
            "timesteps": tuple(values["timesteps"]),
            "models": tuple(map(ModelRecord.from_dict, values["models"])),
        }
        return checked(cls(**{**values, **nested}))._sensible()

    def _sensible(self) -> Provenance:
        """Itself; ValueError where it says what no record of this package does."""
        if not self.models or self.cells < 0:
            raise ValueError("no model made these cells")
        missing = {"solver", "seed", "output"} - set(self.sampling)
        if self.format == FORMAT and missing:
            raise ValueError(f"sampling lacks {', '.join(sorted(missing))}")
        for entry in self.quotas:
            labels, cells = entry["labels"], entry["cells"]
            whole = isinstance(labels, list | tuple) and len(labels) == len(self.variables)
            if not whole or not all(isinstance(name, str | None) for name in labels):
                raise ValueError("a quota has labels of no variable")
            if not isinstance(cells, int) or cells < 0:
                raise ValueError("a quota is no number of cells")
        return self

    def to_uns(self) -> dict[str, Any]:
        """For `.uns['scrdit']`: everything as one JSON text, and beside it what people look for."""
        first = self.models[0]
        return {
            "about": f"synthetic cells, made by scrdit_jax {self.version}; 'scrdit info FILE' says how",
            "provenance": json.dumps(self.to_dict()),
            "version": self.version,
            "cells": self.cells,
            "solver": self.sampling["solver"],
            "network_evaluations": self.network_evaluations,
            "seed": self.sampling["seed"],
            "trained_on": first.metadata.source,
            "trained_steps": first.step,
        }

    @classmethod
    def from_uns(cls, uns: Mapping[str, Any]) -> Provenance | None:
        """From `.uns` of cells; None where there is no record, or none that this program wrote. Reads format 1 too."""
        record = uns.get(KEY)
        if not isinstance(record, Mapping):
            return None
        # Whatever is wrong with it, it is none of this program's.
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError, OverflowError, ScrditError):
            if "provenance" in record:
                return cls.from_dict(strict_json.parse(str(record["provenance"])))
            return _from_format_1(record)
        return None

    def require_same(self, wanted: Provenance, path: Path, remedy: str) -> None:
        """OutputExists, with the first difference named, unless these cells, found at `path`, are the `wanted` ones."""
        if self.format != FORMAT:
            raise OutputExists(f"{path} was written by scrdit_jax {self.version}, an earlier version; {remedy}")
        here, there = json.loads(json.dumps((wanted.to_dict(), self.to_dict())))
        for name in COMPARED:
            if here[name] != there[name]:
                difference = _difference(name, there[name], here[name])
                raise OutputExists(f"{path} holds the cells of another request ({difference}); {remedy}")


def _difference(name: str, there: Any, wanted: Any) -> str:
    """The first value that differs, by name; what is nested is looked into, as whole settings would not fit a line."""
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        key = next(key for key in (*wanted, *there) if key not in there or there[key] != wanted.get(key))
        return _difference(key, there.get(key), wanted.get(key))
    if name == "models" and len(there) == len(wanted):
        return "model " + _difference("", *next(p for p in zip(there, wanted, strict=True) if p[0] != p[1]))
    return f"{name} {str(there)[:60]}, not {str(wanted)[:60]}"


def _from_format_1(record: Mapping[str, Any]) -> Provenance:
    """Earlier versions kept JSON texts beside each other."""
    config, metadata = (strict_json.parse(str(record[name])) for name in ("config", "facts"))
    model = ModelRecord(
        str(record["model"]), int(record["trained_steps"]), RunConfig.from_dict(config),
        DatasetMetadata.from_dict(metadata),
    )  # fmt: skip
    labels: Sequence[Any] = strict_json.parse(str(record.get("labels", "[]")))
    found = Provenance(
        cells=int(record["cells"]),
        quotas=tuple({"labels": names, "cells": count} for names, count in labels),
        variables=model.metadata.variables,
        sampling=strict_json.parse(str(record["sampling"])),
        timesteps=tuple(strict_json.parse(str(record["timesteps"]))),
        network_evaluations=int(record["network_evaluations"]),
        models=(model,),
        version=str(record["version"]),
        format=1,
    )
    return checked(found)._sensible()


def read_uns(path: Path) -> dict[str, Any] | None:
    """{"scrdit": its `.uns['scrdit']`} of a file of cells, without reading the cells; None where there is none."""
    readable_path(path)
    try:
        record = read_part(path, f"uns/{KEY}")
    except BadInput:
        return None
    return None if record is None else {KEY: record}
