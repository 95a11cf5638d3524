"""What synthetic cells say of how they were made: uns["scrdit"], as `scrdit sample` writes it."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.metadata import DatasetMetadata
from ..errors import BadConfig

if TYPE_CHECKING:
    from anndata import AnnData

PROVENANCE_KEY = "scrdit"
METADATA_KEY = "facts"
REQUEST_KEY = "labels"
# Longer texts are records for programs, not for readers.
LONGEST_TEXT = 200

Plain = str | int | float | bool | None


def _recorded(synthetic: AnnData) -> Mapping[str, Any]:
    values = synthetic.uns.get(PROVENANCE_KEY, {})
    return values if isinstance(values, Mapping) else {}


def has_metadata(synthetic: AnnData) -> bool:
    """Whether there is a record of the data set, readable or not, that the cells' model was trained on."""
    return METADATA_KEY in _recorded(synthetic)


def recorded_metadata(synthetic: AnnData) -> DatasetMetadata | None:
    """Of the data set that the model was trained on; None where the cells do not say, or another program wrote them."""
    with contextlib.suppress(KeyError, TypeError, ValueError, BadConfig):
        return DatasetMetadata.from_dict(json.loads(str(_recorded(synthetic)[METADATA_KEY])))
    return None


def requested_cells(synthetic: AnnData) -> dict[str, dict[str, int]]:
    """How many cells of each category were requested, by the column that the model is conditioned on."""
    record, requested = _recorded(synthetic), {}
    with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
        columns = [condition["column"] for condition in json.loads(str(record[METADATA_KEY]))["conditions"]]
        quotas = json.loads(str(record.get(REQUEST_KEY, "[]")))
        for place, column in enumerate(columns):
            counts: dict[str, int] = {}
            for names, count in quotas:
                counts[names[place]] = counts.get(names[place], 0) + count
            requested[column] = counts
    return requested


def provenance_of(synthetic: AnnData) -> dict[str, Plain]:
    """The record by dotted names, as plain values; long texts are left out."""
    return dict(_flat(_recorded(synthetic)))


def _flat(values: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Plain]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
            continue
        if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        if not isinstance(value, bool | int | float | None):
            value = str(value)
        if isinstance(value, str) and len(value) > LONGEST_TEXT:
            continue
        yield f"{prefix}{name}", value
