"""Which group and batch each droplet is of, and which hold a second cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..conditioning.request import Quotas, share_out
from ..config.simulation import SimulationConfig
from .effects import PARTNERS
from .planting import DROPLETS, unit


@dataclass(frozen=True, eq=False)
class Droplets:
    """`group` and `batch` (droplet,) int32; `hosts` (doublet,) int64: the droplets that hold a second cell, in the
    order of those cells, whose numbers follow on those of the droplets' first cells."""

    group: np.ndarray
    batch: np.ndarray
    hosts: np.ndarray

    @classmethod
    def draw(cls, config: SimulationConfig, cells: int, seed: int) -> Droplets:
        """For `cells` droplets; a droplet's group and batch, and whether it is a doublet, do not depend on how many.

        Of as many neighbours as groups times batches each has another combination (randomised blocks), so that all
        cell types are shared out evenly.
        """
        groups, batches = config.group_count, config.batches
        design = groups * batches
        padded = -(-cells // design) * design
        uniform = np.random.Philox(key=[seed + DROPLETS, 0]).random_raw(2 * padded).reshape(-1, 2)
        combination = np.argsort(uniform[:, 0].reshape(-1, design), axis=1, kind="stable").ravel()[:cells]
        doublet = unit(uniform[:cells, 1]) < config.doublets
        # A host's own cell type says nothing of its partner's, which come in the order of the quotas.
        hosts = np.random.default_rng([seed, PARTNERS]).permutation(np.flatnonzero(doublet))
        group, batch = np.divmod(combination, batches)
        return cls(group.astype(np.int32), batch.astype(np.int32), hosts)

    @property
    def is_doublet(self) -> np.ndarray:
        """(droplet,) bool."""
        found = np.zeros(len(self.group), bool)
        found[self.hosts] = True
        return found

    def of_cells(self, numbers: np.ndarray) -> np.ndarray:
        """The droplets that cells of these numbers are in."""
        own = numbers < len(self.group)
        partner = np.where(own, 0, numbers - len(self.group))
        return np.where(own, numbers, self.hosts[partner] if len(self.hosts) else 0)

    def with_partners(self, quotas: Quotas) -> Quotas:
        """The quotas of all cells: of the first ones, and in the same proportions of the second ones."""
        if not len(self.hosts):
            return quotas
        shares = share_out(len(self.hosts), quotas.counts).tolist()
        return Quotas.of([*zip(quotas.codes, quotas.counts, strict=True), *zip(quotas.codes, shares, strict=True)])
