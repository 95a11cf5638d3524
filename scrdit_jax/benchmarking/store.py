"""Measured rows in one JSON file: each is on the disk as soon as it is finished, and what is there is not repeated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import strict_json
from ..errors import OutputExists
from ..io.atomic import atomic_write, check_parents

Row = dict[str, Any]
SCHEMA = 1


class ResultStore:
    """Named rows, and measurements that all of them share, made under `conditions` that do not change.

    The file is {"schema": 1, **conditions, "found": {name: measurement}, "rows": [{"name": ..., ...}]}; it is complete
    at any time, and never behind by more than one row. A process that is started again goes on with what is missing;
    two must not write the same file at once.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any] | None = None) -> None:
        """Open or begin; OutputExists where the file was not measured under these conditions, or is no such file.

        `conditions` are plain values, as JSON gives them back.
        """
        self.path = path
        check_parents(path)
        self._values: dict[str, Any] = {"schema": SCHEMA, **(conditions or {}), "found": {}, "rows": []}
        if path.is_file():
            self._values = self._read(conditions or {})

    def _read(self, conditions: Mapping[str, Any]) -> dict[str, Any]:
        try:
            values = strict_json.read(self.path, nan=True)
            there = {name: values[name] for name in conditions}
            schema, _, _ = values["schema"], values["found"], [row["name"] for row in values["rows"]]
        except (OSError, ValueError, KeyError, TypeError):
            raise OutputExists(f"{self.path} is no benchmark's; choose another --out, or move it") from None
        if schema != SCHEMA:
            raise OutputExists(
                f"{self.path} was written by another version (schema {schema}, not {SCHEMA}); choose another --out"
            )
        for name, wanted in conditions.items():
            if there[name] != wanted:
                raise OutputExists(
                    f"{self.path} was measured under other conditions ({_difference(name, there[name], wanted)}); "
                    "choose another --out, or move it"
                )
        return values

    @property
    def values(self) -> Mapping[str, Any]:
        """Everything, as plain values."""
        return self._values

    @property
    def rows(self) -> Sequence[Row]:
        """The finished rows."""
        return self._values["rows"]

    def __contains__(self, name: str) -> bool:
        return any(row["name"] == name for row in self.rows)

    def measured(self, name: str, measure: Callable[[], Mapping[str, Any]], **same: Any) -> Row:
        """The row called `name`: the one that is there, or `measure()`, which is on the disk when this returns.

        `same` are values that the row must have, of what it was made by; OutputExists where the one there has others.
        """
        row = next((row for row in self.rows if row["name"] == name), None)
        if row is None:
            row = json.loads(json.dumps({"name": name, **measure(), **same}))
            self._values["rows"].append(row)
            self._write()
        for key, wanted in json.loads(json.dumps(same)).items():
            if row.get(key) != wanted:
                raise OutputExists(
                    f"{name!r} in {self.path} is another one ({_difference(key, row.get(key), wanted)}); choose "
                    "another --out, or move it"
                )
        return row

    def shared(self, name: str, measure: Callable[[], Any]) -> Any:
        """What all rows share: the value called `name` that is there, or `measure()`."""
        if name not in self._values["found"]:
            self._values["found"][name] = measure()
            self._write()
        return self._values["found"][name]

    def found(self, name: str) -> Any:
        """What `shared` measured; None where nothing did."""
        return self._values["found"].get(name)

    def arrange(self, names: Sequence[str]) -> None:
        """Put the rows in the order of `names`; those that are not named come last."""
        order = {name: number for number, name in enumerate(names)}
        self._values["rows"].sort(key=lambda row: order.get(row["name"], len(order)))
        self._write()

    def _write(self) -> None:
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self._values, indent=1) + "\n")


def _difference(name: str, there: Any, wanted: Any) -> str:
    if isinstance(there, Mapping) and isinstance(wanted, Mapping):
        key = next(key for key in {**there, **wanted} if there.get(key) != wanted.get(key))
        return _difference(f"{name}.{key}", there.get(key), wanted.get(key))
    return f"{name} {str(there)[:60]}, not {str(wanted)[:60]}"
