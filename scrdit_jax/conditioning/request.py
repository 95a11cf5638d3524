"""How many cells of which labels: from what was asked for to runs that add up exactly."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..checkpoint import Model
from ..errors import BadConfig, BadInput, UnknownCellType
from ..io.checking import listed
from ..io.reading import Data, load_cells
from .assignment import Runs

CELLS = "cells"
PerType = Mapping[str, int] | pd.DataFrame | Path | str


@dataclass(frozen=True, kw_only=True)
class CellRequest:
    """What was asked for. `cells` in all; of `cell_types`, in equal shares; or `per_type`, a table of counts; or in the
    proportions of `match`, real cells. Without any, the proportions of the training cells."""

    cells: int | None = None
    cell_types: tuple[str, ...] = ()
    per_type: PerType | None = None
    match: Data | None = None

    def __post_init__(self) -> None:
        types = (self.cell_types,) if isinstance(self.cell_types, str) else tuple(self.cell_types)
        object.__setattr__(self, "cell_types", types)
        ways = {"--cell-type": bool(types), "--per-type": self.per_type is not None, "--match": self.match is not None}
        given = [name for name, there in ways.items() if there]
        if len(given) > 1:
            raise BadConfig(f"{' and '.join(given)} both say which types are wanted; give one of them")
        if len(set(types)) < len(types):
            raise BadConfig(f"--cell-type names a type twice ({listed(types)}); name each once")
        if self.cells is None and self.per_type is None and self.match is None:
            raise BadConfig("how many cells are wanted is not said; add --cells")
        if self.cells is not None and self.cells < 1:
            raise BadConfig(f"{self.cells} cells were asked for; ask for at least 1")


def share_out(total: int, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """`total` in whole shares proportional to `weights`, by largest remainder; of equal ones the first gets more."""
    weights = np.asarray(weights, np.float64)
    exact = total * weights / weights.sum()
    shares = np.floor(exact).astype(np.int64)
    # Rounded, so that what is equal but for the last bit of a float counts as equal.
    order = np.argsort(-np.round(exact - shares, 9), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares


def resolve(wanted: CellRequest, model: Model) -> tuple[int, Runs]:
    """(cells, runs of labels) that `model` is asked for; cells of a model without conditions bear no labels.

    A column that the request does not mention gets, for each label of the others, the training cells' proportions.
    """
    if not model.metadata.conditions:
        if wanted.cell_types or wanted.per_type is not None or wanted.match is not None:
            raise BadConfig(
                "this model was trained without labels, so no type can be asked for; train with --condition-on COLUMN "
                "or --per-cell-type"
            )
        return wanted.cells, ()
    combinations = _combinations(model)
    if wanted.per_type is not None:
        runs = _of_table(wanted, model, combinations)
    elif wanted.match is not None:
        runs = _like(wanted, model, combinations)
    elif wanted.cell_types:
        column = model.metadata.type_column
        codes = [model.metadata.conditions[column].code(name) for name in wanted.cell_types]
        shares = share_out(wanted.cells, np.ones(len(codes)))
        runs = [
            run
            for code, share in zip(codes, shares, strict=True)
            for run in _spread({column: code}, int(share), combinations)
        ]
    else:
        runs = _spread({}, wanted.cells, combinations)
    named = tuple(
        (tuple(c.names[code] for c, code in zip(model.metadata.conditions, codes, strict=True)), count)
        for codes, count in runs
        if count
    )
    return sum(count for _, count in named), named


Codes = tuple[int, ...]


def _combinations(model: Model) -> dict[Codes, int]:
    """How many training cells bear each combination of labels, in the order of the names."""
    labels = model.cells.labels[:, : len(model.metadata.conditions)]
    found, counts = np.unique(labels, axis=0, return_counts=True)
    return {tuple(map(int, codes)): int(count) for codes, count in zip(found, counts, strict=True)}


def _spread(fixed: Mapping[int, int], total: int, combinations: Mapping[Codes, int]) -> list[tuple[Codes, int]]:
    """`total` cells with the `fixed` codes {column: code}, over the other columns as the training cells are."""
    fitting = {k: n for k, n in combinations.items() if all(k[column] == code for column, code in fixed.items())}
    if not fitting:
        width = len(next(iter(combinations)))
        if len(fixed) < width:
            raise BadInput("no training cell has that combination of labels; name every column")
        return [(tuple(fixed[column] for column in range(width)), total)]
    return list(zip(fitting, map(int, share_out(total, list(fitting.values()))), strict=True))


def _of_table(wanted: CellRequest, model: Model, combinations: Mapping[Codes, int]) -> list[tuple[Codes, int]]:
    source, rows = _read_table(wanted.per_type, model)
    conditions = model.metadata.conditions
    names = {condition.column: i for i, condition in enumerate(conditions)}
    runs, seen = [], set()
    for where, row in rows:
        try:
            fixed = {names[column]: conditions[names[column]].code(name) for column, name in row.items()
                     if column != CELLS}  # fmt: skip
        except UnknownCellType as error:
            raise UnknownCellType(f"{source}, {where}: {error}") from None
        label = ", ".join(name for column, name in row.items() if column != CELLS)
        count = _whole(row[CELLS], f"{source}, {where}: the cells of {label!r}")
        if tuple(fixed.items()) in seen:
            raise BadInput(f"{source}, {where}: {label!r} is there twice; give each label one row")
        seen.add(tuple(fixed.items()))
        runs += _spread(fixed, count, combinations)
    total = sum(count for _, count in runs)
    if total == 0:
        raise BadInput(f"{source} asks for no cells at all; give at least one label a number above 0")
    if wanted.cells not in (None, total):
        raise BadConfig(
            f"--cells asks for {wanted.cells} cells, {source} for {total}; leave --cells out, or make them agree"
        )
    return runs


def _read_table(table: PerType, model: Model) -> tuple[str, Iterable[tuple[str, dict[str, Any]]]]:
    """(what to call it, (where, {column: name, "cells": number}) of each row)."""
    columns = [condition.column for condition in model.metadata.conditions]
    if isinstance(table, pd.DataFrame):
        source, header = "the table", [str(name) for name in table.columns]
        rows = [(f"row {i}", [str(v) for v in values]) for i, values in enumerate(table.itertuples(index=False), 1)]
    elif isinstance(table, Mapping):
        source, header = "per_type", [columns[model.metadata.type_column], CELLS]
        rows = [(f"row {i}", [str(name), str(count)]) for i, (name, count) in enumerate(table.items(), 1)]
    else:
        source, header, rows = _read_file(Path(table))
    expected = f"the columns are {CELLS!r} and one or more of {listed(columns)}"
    unknown = [name for name in header if name not in (*columns, CELLS)]
    if unknown:
        raise BadInput(f"{source} has a column {unknown[0]!r}; {expected}")
    if CELLS not in header or len(header) < 2 or len(set(header)) < len(header):
        raise BadInput(f"{source} has the columns {listed(header) or 'of an empty file'}; {expected}")
    if not rows:
        raise BadInput(f"{source} has a header and no rows; {expected}")
    for where, values in rows:
        if len(values) != len(header):
            raise BadInput(f"{source}, {where}: {len(values)} values under {len(header)} columns")
    return source, [(where, dict(zip(header, values, strict=True))) for where, values in rows]


def _read_file(path: Path) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    if not path.is_file():
        raise BadInput(f"{path} {'is no file' if path.exists() else 'is not there'}; give a .csv of labels and cells")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            rows = [(f"line {reader.line_num}", [value.strip() for value in row]) for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a table ({error}); give a .csv of labels and cells") from None
    return path.name, rows[0][1] if rows else [], rows[1:]


def _whole(value: str, what: str) -> int:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not (number >= 0 and number.is_integer() and number < 2**53):
        raise BadInput(f"{what} are {value!r}; it must be a whole number, 0 or more")
    return int(number)


def _like(wanted: CellRequest, model: Model, combinations: Mapping[Codes, int]) -> list[tuple[Codes, int]]:
    """In the proportions of real cells; as many of them, unless a number is given."""
    cells, source = load_cells(wanted.match)
    conditions = model.metadata.conditions
    shared = [i for i, condition in enumerate(conditions) if condition.column in cells.obs]
    if not shared:
        raise BadInput(f"{source} has none of the model's columns {listed(c.column for c in conditions)} in its obs")
    codes = np.empty((cells.n_obs, len(shared)), np.int64)
    for place, i in enumerate(shared):
        labels = cells.obs[conditions[i].column]
        if missing := int(labels.isna().sum()):
            raise BadInput(f"{source}: obs[{labels.name!r}] lacks the label of {missing} of {cells.n_obs} cells")
        try:
            known = {name: conditions[i].code(name) for name in labels.astype(str).unique()}
        except UnknownCellType as error:
            raise UnknownCellType(f"{source}: {error}") from None
        codes[:, place] = labels.astype(str).map(known).to_numpy()
    found, counts = np.unique(codes, axis=0, return_counts=True)
    total = cells.n_obs if wanted.cells is None else wanted.cells
    return [
        run
        for label, share in zip(found, share_out(total, counts), strict=True)
        for run in _spread(dict(zip(shared, map(int, label), strict=True)), int(share), combinations)
    ]
