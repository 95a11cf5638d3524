"""The rules of the public functions' arguments, by name: a name means the same in all of them."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from anndata import AnnData

from ..checkpoint import Run
from ..config import SAMPLING_DTYPES, RunConfig
from ..config.checks import BATCH, CELLS, SEED, SEVERAL, Choice, Real, Rule, Whole, flag, require, text, texts
from ..config.sampling import MOST_TIMESTEPS
from ..data.preparing import Prepared
from ..paths import usable_name

F = TypeVar("F", bound=Callable[..., Any])


def _path(name: str, value: Any) -> Any:
    """Require a path, which need not be there."""
    require(isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str), name, value, "a path")
    path = usable_name(value)
    return value if isinstance(value, str) else path


def _run(name: str, value: Any) -> Any:
    """Require a run, or the path of one."""
    require(isinstance(value, Run | str | os.PathLike), name, value, "a run or its path")
    return Run(Path(_path(name, value.path)), value.stopped) if isinstance(value, Run) else _path(name, value)


def _cells(name: str, value: Any) -> Any:
    """Require an AnnData, or the path of one."""
    require(isinstance(value, AnnData | str | os.PathLike), name, value, "an AnnData or a path")
    return value if isinstance(value, AnnData) else _path(name, value)


def _data(name: str, value: Any) -> Any:
    """Require cells or their path, or several of them."""
    if isinstance(value, list | tuple):
        return [_data(f"{name}[{i}]", each) for i, each in enumerate(value)]
    require(isinstance(value, AnnData | str | os.PathLike), name, value, "an AnnData, a path, or a list of such")
    return _cells(name, value)


def _prepared(name: str, value: Any) -> Any:
    """Require what `prepare` gives."""
    require(isinstance(value, Prepared), name, value, "what prepare() gives")
    return value


def _preset(name: str, value: Any) -> Any:
    require(isinstance(value, str | Path | RunConfig), name, value, "the name or path of a preset, or a config")
    return value


def _per_type(name: str, value: Any) -> Any:
    kinds = Mapping | pd.DataFrame | str | os.PathLike
    require(isinstance(value, kinds), name, value, "{name: number}, a table or the path of one")
    return _path(name, value) if isinstance(value, str | os.PathLike) else value


def _conditions(name: str, value: Any) -> Any:
    require(isinstance(value, Mapping), name, value, "{column: category}")
    return {text(f"a column of {name}", column): text(f"{name}[{column!r}]", each) for column, each in value.items()}


def _proportions(name: str, value: Any) -> Any:
    require(isinstance(value, Mapping) and len(value) > 0, name, value, "{cell type: share}")
    shares = {text(f"a type of {name}", each): SHARES(f"{name}[{each!r}]", share) for each, share in value.items()}
    require(sum(shares.values()) > 0, name, value, "shares of which one is above 0")
    return shares


def _cell_types(name: str, value: Any) -> Any:
    return (text(name, value),) if isinstance(value, str) else texts(name, value)


def _gene_names(name: str, value: Any) -> Any:
    return _path(name, value) if isinstance(value, str | os.PathLike) else texts(name, value)


def _callable(name: str, value: Any) -> Any:
    require(callable(value), name, value, "a function")
    return value


def _axes(name: str, value: Any) -> Any:
    require(hasattr(value, "scatter"), name, value, "matplotlib's axes")
    return value


def _address(name: str, value: Any) -> Any:
    text(name, value)
    require(re.fullmatch(r"[^\s:]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", value) is not None, name, value, "HOST:PORT")
    return value


MOST_PROCESSES = 1_000_000
SHARES = Real(0, 1e9)
RULES: Mapping[str, Rule] = {
    "ax": _axes,
    "basis": text,
    "batch_size": BATCH,
    "cases": texts,
    "cell_types": _cell_types,
    "cells": CELLS,
    "checkpoint": _path,
    "color": text,
    "conditions": _conditions,
    "coordinator": _address,
    "data": _data,
    "distributed": flag,
    "donor_key": text,
    "dtype": Choice(SAMPLING_DTYPES),
    "first_timestep": Whole(0, 1),
    "from_run": _run,
    "genes": _gene_names,
    "heads": Whole(1, 1024),
    "key": text,
    "match": _cells,
    "max_cells": CELLS,
    "max_minutes": Real(0, 1e7, open_low=True),
    "name": text,
    "name_or_path": _preset,
    "on_notes": _callable,
    "out": _path,
    "path": _path,
    "per_cell_type": flag,
    "per_type": _per_type,
    "prepared": _prepared,
    "preset": _preset,
    "process_id": Whole(0, MOST_PROCESSES - 1),
    "processes": Whole(1, MOST_PROCESSES),
    "proportions": _proportions,
    "ray": text,
    "real": lambda name, value: _run(name, value) if isinstance(value, Run) else _cells(name, value),
    "repair": _run,
    "repeats": SEVERAL,
    "run": _run,
    "score": text,
    "seed": SEED,
    "seeds": SEVERAL,
    "shard_cells": CELLS,
    "solver": text,
    "steps": Whole(1, MOST_TIMESTEPS),
    "stream": flag,
    "synthetic": _cells,
    "tensorboard": flag,
    "transpose": flag,
    "zero_value": Real(-1e6, 0),
}


def checked(function: F) -> F:
    """Check every argument by the rule of its name before the function is called; BadConfig names what is wrong.

    None is an argument where the annotation has it. Settings, which come as `**changes` or `**options`, have rules of
    their own (`config`).
    """
    signature = inspect.signature(function)
    parameters = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    rules = {p.name: RULES[p.name] for p in parameters}
    may_be_none = {p.name for p in parameters if "None" in str(p.annotation).split(" | ")}
    may_be_prepared = {p.name for p in parameters if "Prepared" in str(p.annotation).split(" | ")}

    @functools.wraps(function)
    def call(*args: Any, **keywords: Any) -> Any:
        bound = signature.bind(*args, **keywords)
        for name in rules.keys() & bound.arguments.keys():
            value = bound.arguments[name]
            if value is None and name in may_be_none:
                continue
            rule = _prepared if name in may_be_prepared and isinstance(value, Prepared) else rules[name]
            bound.arguments[name] = rule(name, value)
        return function(*bound.args, **bound.kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]
