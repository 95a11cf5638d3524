"""Parts of one kind, a module each: the name of a part is that of its file, and a new file is a new part."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from .errors import BadConfig

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """The parts in a package: `sampling/solvers/dpmpp_2m.py`, with its `SOLVER = ...`, is the solver "dpmpp-2m".

    Names are read from the folder and modules imported when a part is asked for, so that `--help` can list parts
    without importing JAX. Modules whose names begin with an underscore are not parts.
    """

    def __init__(self, package: str, attribute: str, kind: str) -> None:
        """Parts of `kind` ("solver", for messages), each the `attribute` of a module of `package`."""
        self._package, self._attribute, self._kind = package, attribute, kind

    def __iter__(self) -> Iterator[str]:
        package = sys.modules.get(self._package)
        # A package that is not imported yet is only found: it may import JAX.
        path = package.__path__ if package else importlib.util.find_spec(self._package).submodule_search_locations
        names = (module.name for module in pkgutil.iter_modules(path))
        return iter(sorted(name.replace("_", "-") for name in names if not name.startswith("_")))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def require(self, name: str) -> None:
        """BadConfig, with the names there are, unless there is a part called `name`."""
        if name not in self:
            raise BadConfig(f"no {self._kind} {name!r:.80}; there are {', '.join(self)}")

    def __getitem__(self, name: str) -> T:
        """The part called `name`; BadConfig, with the names there are, for any other."""
        self.require(name)
        module = importlib.import_module(f"{self._package}.{name.replace('-', '_')}")
        return getattr(module, self._attribute)


# Where each kind of part lives. Only names are here: any layer may list them, and none is imported before it is used.
SOLVERS: Registry = Registry("scrdit_jax.sampling.solvers", "SOLVER", "solver")
NETWORKS: Registry = Registry("scrdit_jax.networks", "NETWORK", "network")
PREDICTIONS: Registry = Registry("scrdit_jax.diffusion.predictions", "PREDICTION", "prediction")
OBJECTIVES: Registry = Registry("scrdit_jax.training.objectives", "OBJECTIVE", "objective")
READERS: Registry = Registry("scrdit_jax.io.readers", "READER", "reader")
METRICS: Registry = Registry("scrdit_jax.evaluation.metrics", "METRICS", "metric")
DERIVED: Registry = Registry("scrdit_jax.conditioning.derived", "DERIVED", "derived number")
