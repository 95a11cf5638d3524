"""How many cells of which categories: from what was asked for to quotas that add up exactly."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config import checks
from ..config.checks import shown
from ..errors import BadConfig, BadInput, UnknownCellType
from ..io.checking import listed
from ..io.reading import Data, load_cells
from ..paths import readable_path
from .table import Codes, ConditionTable, grouped
from .variables import Variable

CELLS = "cells"
MOST_BYTES = 100_000_000
PerType = Mapping[str, int] | pd.DataFrame | Path | str


@dataclass(frozen=True, kw_only=True)
class CellRequest:
    """What was asked for. `cells` in all; of `cell_types`, in equal shares, and of the category that `conditions` names
    for each of some columns; or `per_type`, a table of counts; or in the proportions of `match`, real cells. Without
    any, the proportions of the training cells."""

    cells: int | None = None
    cell_types: Sequence[str] = ()
    conditions: Mapping[str, str] = field(default_factory=dict)
    per_type: PerType | None = None
    match: Data | None = None

    def __post_init__(self) -> None:
        types = (self.cell_types,) if isinstance(self.cell_types, str) else tuple(self.cell_types)
        object.__setattr__(self, "cell_types", types)
        named = {"--cell-type": bool(types), "--condition": bool(self.conditions)}
        tables = {"--per-type": self.per_type is not None, "--match": self.match is not None}
        given = [name for name, there in (named | tables).items() if there]
        if len(given) > 1 and any(tables.values()):
            raise BadConfig(f"{' and '.join(given)} both say which cells are wanted; give one of them")
        if len(set(types)) < len(types):
            raise BadConfig(f"--cell-type names a type twice ({listed(types)}); name each once")
        if self.per_type is None and self.match is None:
            _asked(self)
        if self.cells is not None:
            object.__setattr__(self, CELLS, checks.CELLS(CELLS, self.cells))


@dataclass(frozen=True)
class Quotas:
    """Cells in the order in which they are generated: `counts` of those with `codes`, quota by quota.

    `codes` has for each quota one code for each variable, -1 where a variable is left out; none, (), for cells without
    labels.
    """

    codes: tuple[Codes, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        for count in (*self.counts, sum(self.counts)):
            checks.CELLS(CELLS, count)

    @classmethod
    def unlabelled(cls, cells: int) -> Quotas:
        """`cells` cells without labels."""
        return cls(((),), (cells,))

    @classmethod
    def of(cls, runs: Iterable[tuple[Codes, int]]) -> Quotas:
        """The quotas that are not empty, in order."""
        kept = [(tuple(map(int, codes)), int(count)) for codes, count in runs if count]
        return cls(tuple(codes for codes, _ in kept), tuple(count for _, count in kept))

    @property
    def cells(self) -> int:
        """How many in all."""
        return sum(self.counts)

    def named(self, variables: Sequence[Variable]) -> list[dict[str, Any]]:
        """[{"labels": [a category of each of the `variables`, None where it is left out], "cells": count}, ...] for
        files."""
        categories = [(*variable.categories, None) for variable in variables]
        return [
            {"labels": [names[code] for names, code in zip(categories, codes, strict=False)], "cells": count}
            for codes, count in zip(self.codes, self.counts, strict=True)
        ]

    @classmethod
    def from_named(cls, values: Sequence[Mapping[str, Any]], variables: Sequence[Variable]) -> Quotas:
        """The inverse of `named`; UnknownCellType for a category that the variables do not have."""
        return cls.of(
            (
                tuple(-1 if n is None else v.code(n) for v, n in zip(variables, entry["labels"], strict=False)),
                entry["cells"],
            )
            for entry in values
        )


def share_out(total: int, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """`total` in whole shares proportional to `weights`, by largest remainder; of equal ones the first gets more."""
    weights = np.asarray(weights, np.float64)
    exact = total * weights / weights.sum()
    shares = np.floor(exact).astype(np.int64)
    # Rounded, so that what is equal but for the last bit of a float counts as equal.
    order = np.argsort(-np.round(exact - shares, 9), kind="stable")
    shares[order[: total - shares.sum()]] += 1
    return shares


def share_out_in_order(total: int, weights: np.ndarray) -> np.ndarray:
    """`total` in whole shares of which those of any run of neighbours add up to theirs, to less than one."""
    ends = np.rint(total * (np.cumsum(weights, dtype=np.float64) / np.sum(weights)))
    return np.diff(ends, prepend=0).astype(np.int64)


def resolve(request: CellRequest, table: ConditionTable | None) -> Quotas:
    """The quotas that `request` means for a model with the `table` of its training cells (None: none is known).

    A variable that the request does not mention gets, for each combination of the others, the training cells'
    proportions; where no training cell has that combination, it is left out. Cells of a model without variables bear
    no labels.
    """
    if table is None or not table.variables:
        if request.cell_types or request.conditions or request.per_type is not None or request.match is not None:
            raise BadConfig(
                "this model was trained without labels, so no type can be asked for; train with --condition-on COLUMN "
                "or --per-cell-type"
            )
        return Quotas.unlabelled(_asked(request))
    if request.per_type is not None:
        return Quotas.of(_from_table(request, request.per_type, table))
    if request.match is not None:
        return Quotas.of(_matching(request, request.match, table))
    fixed = _named(request.conditions, table)
    if not request.cell_types:
        return Quotas.of(_spread(fixed, _asked(request), table))
    place = table.type_place
    if place in fixed:
        raise BadConfig(f"--cell-type and --condition {table.type_variable}=... both name a type; give one of them")
    codes = [table.variables[place].code(name) for name in request.cell_types]
    shares = share_out(_asked(request), np.ones(len(codes)))
    return Quotas.of(
        run
        for code, share in zip(codes, shares, strict=True)
        for run in _spread(fixed | {place: code}, int(share), table)
    )


def _named(conditions: Mapping[str, str], table: ConditionTable) -> dict[int, int]:
    """{place: code} of {column: category}; BadInput or UnknownCellType where the model has no such one."""
    places = {variable.name: place for place, variable in enumerate(table.variables)}
    for column in conditions:
        if column not in places:
            near = get_close_matches(column, places, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its columns are {listed(places)}"
            raise BadInput(f"the model is not conditioned on {shown(column)}; {hint}")
    return {places[column]: table.variables[places[column]].code(str(name)) for column, name in conditions.items()}


def _asked(request: CellRequest) -> int:
    """The number of cells, which a request without a table or real cells has."""
    if request.cells is None:
        raise BadConfig("how many cells are wanted is not said; add --cells")
    return request.cells


def _spread(fixed: Mapping[int, int], total: int, table: ConditionTable) -> list[tuple[Codes, int]]:
    """`total` cells with the `fixed` codes {place: code}, over the other variables as the training cells are; without
    the others where no training cell has those codes."""
    codes = tuple(fixed.get(place, -1) for place in range(len(table.variables)))
    numbers = table.seen(codes)
    if numbers is None:
        return [(codes, total)]
    # Fewer cells than combinations: the largest shares alone would leave out whole types whose combinations are rare.
    if total < len(numbers):
        numbers = numbers[np.argsort(table.codes[numbers, table.type_place], kind="stable")]
        shares = share_out_in_order(total, table.weights[numbers])
    else:
        shares = share_out(total, table.weights[numbers])
    rows = table.codes[numbers[shares > 0]].tolist()
    return list(zip(map(tuple, rows), shares[shares > 0].tolist(), strict=True))


def _from_table(request: CellRequest, per_type: PerType, table: ConditionTable) -> list[tuple[Codes, int]]:
    source, rows = _read_table(per_type, table)
    runs, seen = [], set()
    for where, row in rows:
        labels = {column: name for column, name in row.items() if column != CELLS and name}
        if not labels:
            raise BadInput(f"{source}, {where}: no label is given; name one in a column at least")
        try:
            fixed = _named(labels, table)
        except UnknownCellType as error:
            raise UnknownCellType(f"{source}, {where}: {error}") from None
        label = ", ".join(labels.values())
        count = _whole(row[CELLS], f"{source}, {where}: the cells of {shown(label)}")
        if tuple(fixed.items()) in seen:
            raise BadInput(f"{source}, {where}: {shown(label)} is there twice; give each label one row")
        seen.add(tuple(fixed.items()))
        runs += _spread(fixed, count, table)
    total = sum(count for _, count in runs)
    if total == 0:
        raise BadInput(f"{source} asks for no cells at all; give at least one label a number above 0")
    if request.cells not in (None, total):
        raise BadConfig(
            f"--cells asks for {request.cells} cells, {source} for {total}; leave --cells out, or make them agree"
        )
    return runs


def _read_table(table: PerType, known: ConditionTable) -> tuple[str, Iterable[tuple[str, dict[str, Any]]]]:
    """(what to call it, (where, {column: category, "cells": number}) of each row)."""
    columns = [variable.name for variable in known.variables]
    if isinstance(table, pd.DataFrame):
        source, header = "the table", [str(name) for name in table.columns]
        rows = [(f"row {i}", ["" if pd.api.types.is_scalar(v) and pd.isna(v) else str(v) for v in values])
                for i, values in enumerate(table.itertuples(index=False), 1)]  # fmt: skip
    elif isinstance(table, Mapping):
        source, header = "per_type", [columns[known.type_place], CELLS]
        rows = [(f"row {i}", [str(name), str(count)]) for i, (name, count) in enumerate(table.items(), 1)]
    else:
        source, header, rows = _read_file(Path(table))
    expected = f"the columns are {CELLS!r} and one or more of {listed(columns)}"
    unknown = [name for name in header if name not in (*columns, CELLS)]
    if unknown:
        raise BadInput(f"{source} has a column {shown(unknown[0])}; {expected}")
    if CELLS not in header or len(header) < 2 or len(set(header)) < len(header):
        raise BadInput(f"{source} has the columns {listed(header)[:200] if header else 'of an empty file'}; {expected}")
    if not rows:
        raise BadInput(f"{source} has a header and no rows; {expected}")
    for where, values in rows:
        if len(values) != len(header):
            raise BadInput(f"{source}, {where}: {len(values)} values under {len(header)} columns")
    return source, [(where, dict(zip(header, values, strict=True))) for where, values in rows]


def _read_file(path: Path) -> tuple[str, list[str], list[tuple[str, list[str]]]]:
    if not readable_path(path).is_file():
        raise BadInput(f"{path} {'is no file' if path.exists() else 'is not there'}; give a .csv of labels and cells")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path} is larger than {MOST_BYTES / 1e6:.0f} MB; give a .csv of labels and cells")
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
    if not (number.is_integer() and 0 <= number <= checks.CELLS.high):
        raise BadInput(f"{what} are {shown(value)}; it must be a whole number, 0 to {checks.CELLS.high:,}")
    return int(number)


def _matching(request: CellRequest, match: Data, table: ConditionTable) -> list[tuple[Codes, int]]:
    """In the proportions of real cells; as many of them, unless a number is given."""
    cells, source = load_cells(match)
    variables = table.variables
    shared = [i for i, variable in enumerate(variables) if variable.name in cells.obs]
    if not shared:
        raise BadInput(f"{source} has none of the model's columns {listed(v.name for v in variables)} in its obs")
    codes = np.empty((cells.n_obs, len(shared)), np.int64)
    for place, i in enumerate(shared):
        labels = cells.obs[variables[i].name]
        if missing := int(labels.isna().sum()):
            raise BadInput(f"{source}: obs[{labels.name!r}] lacks the label of {missing} of {cells.n_obs} cells")
        try:
            known = {name: variables[i].code(name) for name in labels.astype(str).unique()}
        except UnknownCellType as error:
            raise UnknownCellType(f"{source}: {error}") from None
        codes[:, place] = labels.astype(str).map(known).to_numpy()
    order, starts = grouped(codes)
    found, counts = codes[order[starts]], np.diff(np.append(starts, len(codes)))
    total = cells.n_obs if request.cells is None else request.cells
    return [
        run
        for label, share in zip(found, share_out(total, counts), strict=True)
        for run in _spread(dict(zip(shared, map(int, label), strict=True)), int(share), table)
    ]
