"""How much of the paper is measured: networks, epochs, samplers; all of it, or a quick form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import scrdit_jax as scrdit
from scrdit_jax.config import RunConfig

# The paper's, and two more.
ACCELERATIONS = (1, 10, 20, 50, 100, 250, 500)
COLLAPSED = 100
# Not in the paper: a DiT of the same size that learns the distribution of each gene, sampled by drawing from it.
DRAWN = "dit-drawn"
SYSTEMS = {
    "dit-zn": {},
    "dit": {"zero_value": None},
    "unet": {"architecture": "unet", "zero_value": None},
    # Not in the paper: what the collapse is explained with.
    "dit-zn-standardised": {"standardize": True},
    # Of the same genes.
    DRAWN: {"gene_selection": "cv", "min_cells": 30},
}


@dataclass(frozen=True)
class Plan:
    """How much is done. `cells` are sampled for each seed; `dit` and `unet` are settings of the networks."""

    epochs: tuple[int, ...]
    unet_epochs: tuple[int, ...]
    cells: int
    seeds: int
    etas: tuple[float, ...]
    main_acceleration: int
    settings: dict[str, Any]
    dit: dict[str, Any]
    unet: dict[str, Any]
    systems: tuple[str, ...] = tuple(SYSTEMS)

    def of_acceleration(self) -> Plan:
        """Table 3 alone: the two models that it compares, trained to the end."""
        return replace(self, systems=("dit-zn", DRAWN), epochs=self.epochs[-1:])


FULL = Plan(
    epochs=(200, 400, 600, 800), unet_epochs=(200, 400, 600, 800),
    cells=2000, seeds=3, etas=(0.0, 0.5, 1.0), main_acceleration=1,
    settings={}, dit={}, unet={"heads": 4},
)  # fmt: skip
QUICK = Plan(
    epochs=(50, 100, 200, 400), unet_epochs=(50, 100, 200), cells=128, seeds=2, etas=(0.0, 1.0), main_acceleration=10,
    settings={"genes": 400, "held_out": 0.25},
    dit={"genes_per_token": 20, "width": 128, "depth": 3, "heads": 4}, unet={"channels": 8, "heads": 1},
)  # fmt: skip


OWN = "own"


@dataclass(frozen=True)
class Sampler:
    """How cells are drawn. Acceleration 1 with eta 1 is DDPM's own sampling, sigma^2 = beta. The schedule OWN is what
    the model is sampled with where nothing is asked for, solver and timesteps.

    `from_real` begins with training cells under the first timestep's noise instead of with pure noise: what is wrong
    then is not the start's fault.
    """

    acceleration: int
    eta: float
    schedule: str
    from_real: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """For `scrdit.sample`."""
        if self.acceleration == 1 and self.eta == 1:
            return {"solver": "ddpm", "schedule": "uniform"}
        if self.schedule == OWN:
            return {"acceleration": self.acceleration}
        return {"solver": "ddim", "eta": self.eta, "schedule": self.schedule, "acceleration": self.acceleration}

    def __str__(self) -> str:
        return f"r{self.acceleration}-eta{self.eta:g}-{self.schedule}" + "-from-real" * self.from_real


@dataclass(frozen=True)
class CellSource:
    """A set of cells: `name` for the tables, and where they are read from."""

    name: str
    data: str
    cell_type: str | None
    cell_type_key: str

    @classmethod
    def parse(cls, text: str, cell_type_key: str) -> CellSource:
        """DATA or DATA:TYPE."""
        data, colon, cell_type = text.rpartition(":") if ":" in text else (text, "", "")
        return cls(cell_type or Path(data).stem, data, cell_type if colon else None, cell_type_key)


def main_sampler(plan: Plan) -> Sampler:
    """Tables 1 and 2: DDPM, or where that would take too long the acceleration that the paper finds as good."""
    return Sampler(plan.main_acceleration, 1.0, "paper")


def samplers(system: str, plan: Plan) -> list[Sampler]:
    """What the last model of a system is sampled with, beside `main_sampler`."""
    starts = [Sampler(COLLAPSED, eta, schedule) for eta in plan.etas for schedule in ("paper", "uniform")]
    starts += [Sampler(COLLAPSED, eta, schedule, True) for eta in plan.etas for schedule in ("paper", "uniform")]
    if system == "dit-zn-standardised":
        return starts
    # Two evaluations at least.
    accelerated = [r for r in ACCELERATIONS[1:] if 2 * r <= plan.settings.get("timesteps", 1000)]
    if system == DRAWN:
        return [Sampler(r, 1.0, OWN) for r in accelerated]
    if system != "dit-zn":
        return []
    table = [Sampler(1, eta, "paper") for eta in plan.etas]
    table += [Sampler(r, eta, s) for r in accelerated for s in ("paper", "quadratic") for eta in plan.etas]
    return list(dict.fromkeys([*table, *starts]))


def config_of(system: str, cells: CellSource, plan: Plan) -> RunConfig:
    """The `paper` preset with what the system and the plan change, `demo` for the one whose genes are drawn; the steps
    are set once the cells are counted."""
    changes = {**SYSTEMS[system], **plan.settings, **(plan.unet if system == "unet" else plan.dit)}
    if cells.cell_type is not None:
        changes |= {"cell_type_key": cells.cell_type_key, "cell_types": [cells.cell_type]}
    return scrdit.settings("demo" if system == DRAWN else "paper", **changes)
