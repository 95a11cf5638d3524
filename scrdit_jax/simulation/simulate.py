"""Cells of a model with effects planted in them, in memory."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from anndata import AnnData
from scipy import sparse

from ..conditioning.request import Quotas
from ..config import SamplingConfig, SimulationConfig
from ..config.checks import shown
from ..config.simulation import GROUP
from ..devices import usable_cores
from ..errors import BadConfig
from ..families import Trained, models_of
from ..generation.composition import CellSampler, Collected, Job, collect, dispatch_ahead, make_sampler
from ..generation.conditions import states_of
from ..generation.moments import Moments, expression_moments, require_distribution
from ..generation.plan import Shard
from ..generation.request import SampleRequest, observed_variables
from ..generation.sample import require_memory
from ..io.append import CellBlock
from ..io.checking import listed
from ..progress import tqdm
from ..provenance import Provenance
from .droplets import Droplets
from .effects import Effects, group_names
from .output import Truth, as_adata
from .planting import EFFECTS, contaminated, multiplied, row_slices, uniforms

# Batches that wait for their counts, at most.
MOST_WAITING = 4
# Counts before and after, and values.
COPIES = 3


class Cells(NamedTuple):
    """Counts (cell, gene) int32, labels (cell, variable) int32, library sizes (cell,), and what log1p is taken of: a
    count times `scale` (cell,) over the library size."""

    counts: sparse.csr_matrix
    labels: np.ndarray
    library_size: np.ndarray
    scale: np.ndarray

    @classmethod
    def join(cls, parts: list[Cells]) -> Cells:
        """One of several, in order."""
        counts, *rest = zip(*parts, strict=True)
        return cls(sparse.vstack(counts, format="csr", dtype=np.int32), *map(np.concatenate, rest))


@dataclass(frozen=True, eq=False)
class Simulation:
    """A request for cells with everything drawn that does not need the cells: `sampler` makes those of the droplets,
    first ones and second ones; `effects` are those of the droplets' groups, or of place `column` of the cells' labels,
    and, if there are `affected` codes, only in cells that have one at place `type_place`. `depth` is every cell's
    library size."""

    config: SimulationConfig
    sampler: CellSampler
    effects: Effects
    droplets: Droplets
    seed: int
    target_sum: float | None
    depth: float | None
    column: int | None
    type_place: int = 0
    affected: tuple[int, ...] | None = None

    def cells(self, job: Job, collected: Collected, moments: Moments | None) -> Cells:
        """The job's cells, as they are sequenced in a droplet of their own."""
        block = self.sampler.block(job, collected)
        library = np.asarray(block.library_size, np.float64)
        per_unit, scale = self._scales(block.cells, library)
        numbers = np.arange(job.first, job.first + job.count)
        droplet = self.droplets.of_cells(numbers)
        category, batch = self.categories(block.labels, droplet), self.droplets.batch[droplet]
        deeper = self.config.depth_factor * np.exp2(self.effects.depths[batch])
        if self.depth is not None:
            deeper = deeper * self.depth / library
        before = np.asarray(block.counts.sum(axis=1), np.float64).ravel()
        parts = []
        for rows in row_slices(*block.counts.shape):
            parts.append(self._planted(block, rows, numbers, (category, batch, deeper), (moments, per_unit)))
        counts = sparse.vstack(parts, format="csr", dtype=np.int32)
        after = np.asarray(counts.sum(axis=1), np.float64).ravel()
        # What the cell has in genes that the model lacks is as it would be at the new depth. Where counts were rounded
        # up to more than the library size, it stays in proportion.
        share = after / np.maximum(before, 1)
        library = np.where(library >= before, after + (library - before) * deeper, library * share)
        return Cells(counts, block.labels, library, scale)

    def _planted(
        self,
        block: CellBlock,
        rows: slice,
        numbers: np.ndarray,
        design: tuple[np.ndarray, np.ndarray, np.ndarray],
        known: tuple[Moments | None, np.ndarray],
    ) -> sparse.csr_matrix:
        """Some rows of a block, with their rates multiplied."""
        category, batch, deeper = (each[rows] for each in design)
        pairs, of_pair = np.unique(np.stack([category, batch], axis=1), axis=0, return_inverse=True)
        table = np.stack([self.effects.factors(*pair) for pair in pairs.tolist()])
        factors = table[of_pair.ravel()] * deeper[:, None]
        if np.all(factors == 1):
            return block.counts[rows]
        moments, per_unit = known
        if moments is not None:
            unit = per_unit[rows][:, None]
            moments = Moments(moments.mean[rows] * unit, moments.square[rows] * unit**2)
        uniform = uniforms(self.seed, EFFECTS, numbers[rows], factors.shape[1])
        return sparse.csr_matrix(multiplied(block.counts[rows].toarray(), factors, moments, uniform))

    def _scales(self, cells: sparse.csr_matrix, library: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(counts for a unit of relative expression, what cells are scaled to), (cell,) each; see CountSampler."""
        sums = np.asarray(cells.expm1().sum(axis=1), np.float64).ravel()
        target = np.full(len(library), self.target_sum or 0.0)
        scale = np.where(target > 0, target, np.where(sums > 0, sums, 1.0))
        counted = self.sampler.counts
        whole = counted is not None and counted.whole
        return library / (scale if whole else np.maximum(scale, sums)), scale

    def categories(self, labels: np.ndarray, droplet: np.ndarray) -> np.ndarray:
        """Which category's fold changes each cell has, (cell,); -1 for none."""
        found = self.droplets.group[droplet] if self.column is None else labels[:, self.column]
        if not self.effects.categories:
            return np.full(len(droplet), -1)
        if self.affected is not None:
            found = np.where(np.isin(labels[:, self.type_place], self.affected), found, -1)
        return found

    @property
    def raises(self) -> bool:
        """Whether some gene of some cell may be raised."""
        return self.config.raises or self.depth is not None


def simulate(
    trained: Trained, quotas: Quotas, sampling: SamplingConfig, config: SimulationConfig, *, progress: bool = True
) -> AnnData:
    """Synthetic cells with what `config` says planted in them; the truth is in obs, var, varm and uns.

    The cells are those of `generation.sample` with the same seed: where nothing is planted, to the last count. Order:
    fold changes, batch factors and depth on each cell's own counts (planting), the second cells of doublets added,
    ambient counts in place of others. Cell i depends on the model, the seeds, i and its conditions alone; with doublets
    also on how many cells are made, with ambient counts on the cells of its batch.
    """
    seed = sampling.seed if config.effects_seed is None else config.effects_seed
    genes = len(models_of(trained)[0].metadata.genes)
    require_memory(quotas.cells + round(config.doublets * quotas.cells), genes, copies=COPIES)
    droplets = Droplets.draw(config, quotas.cells, seed)
    simulation, request = _begun(trained, quotas, sampling, config, droplets)
    provenance = request.provenance(trained)
    cells = _sequenced(simulation, quotas.cells + len(droplets.hosts), progress)
    partners, cells = _combined(cells, droplets)
    native, ambient = None, None
    if config.ambient:
        native = cells.counts
        counts, ambient = _with_ambient(native, config.ambient, droplets.batch, seed)
        cells = cells._replace(counts=counts)
    truth = Truth(config, simulation.effects, droplets, partners, native, ambient, record_of(provenance, config))
    block = CellBlock(_log_values(cells), cells.labels, cells.counts, cells.library_size.astype(np.float32))
    return as_adata(block, provenance, truth, simulation.sampler.batch_size)


def request_of(trained: Trained, quotas: Quotas, sampling: SamplingConfig) -> SampleRequest:
    """That of the cells that effects are planted in."""
    return SampleRequest.of(trained, quotas, replace(sampling, output="counts"))


def record_of(provenance: Provenance, config: SimulationConfig) -> str:
    """JSON of everything that makes simulated cells the ones that were asked for."""
    cells = {name: value for name, value in provenance.to_dict().items() if name not in ("models", "version")}
    made = {"models": [model.digest for model in provenance.models], "cells": cells}
    return json.dumps({"simulation": asdict(config), **made})


def _begun(
    trained: Trained, quotas: Quotas, sampling: SamplingConfig, config: SimulationConfig, droplets: Droplets
) -> tuple[Simulation, SampleRequest]:
    model = models_of(trained)[0]
    genes, states = len(model.metadata.genes), states_of(model)
    categories, column, selected = _categories(trained, config)
    # Cells of known library sizes are brought to another depth as genes are to another expression.
    known = states.target_sum is not None and states.library_size is not None
    depth = sampling.depth if known else None
    request = request_of(trained, quotas, replace(sampling, output="counts", depth=None if known else sampling.depth))
    sampler = make_sampler(trained, replace(request, quotas=droplets.with_partners(quotas)))
    if config.raises or depth is not None:
        for engine in sampler.engines:
            require_distribution(engine)
    seed = sampling.seed if config.effects_seed is None else config.effects_seed
    effects = Effects.draw(config, categories, genes, seed)
    simulation = Simulation(config, sampler, effects, droplets, seed, states.target_sum, depth, column, **selected)
    return simulation, request_of(trained, quotas, sampling)


def _categories(trained: Trained, config: SimulationConfig) -> tuple[tuple[str, ...], int | None, Mapping[str, Any]]:
    """(categories that differ, the place of their column, which cell types have the effects, by name of a field)."""
    variables = observed_variables(trained)
    names = [variable.name for variable in variables]
    selected: dict[str, Any] = {}
    if config.de_cell_types:
        if not variables:
            raise BadConfig("this model was trained without labels, so no cell type is known; leave --de-cell-type out")
        place = trained.conditions.type_place
        codes = tuple(variables[place].code(name) for name in config.de_cell_types)
        selected = {"type_place": place, "affected": codes}
    if config.de_by == GROUP:
        return group_names(config) if config.de_share else (), None, selected
    if config.de_by not in names:
        there = f"its columns are {listed(names)}" if names else "it was trained without labels"
        raise BadConfig(f"--de-by names {shown(config.de_by)}, which the model is not conditioned on; {there}")
    column = names.index(config.de_by)
    return (tuple(variables[column].categories) if config.de_share else ()), column, selected


def _sequenced(simulation: Simulation, cells: int, progress: bool) -> Cells:
    """All cells, each in a droplet of its own."""
    done: list[Cells] = []
    waiting: deque[Future[Cells]] = deque()
    with (
        ThreadPoolExecutor(usable_cores(), thread_name_prefix="planter") as planters,
        tqdm(total=cells, unit="cell", disable=None if progress else True, desc="simulate") as bar,
    ):
        for each in dispatch_ahead(simulation.sampler.jobs([Shard(0, 0, cells)])):
            job, collected, moments = each.job, collect(each), None
            if simulation.raises:
                inside = slice(job.first - job.batch, job.first - job.batch + job.count)
                moments = Moments(*(part[inside] for part in expression_moments(job.engine, job.batch)))
            waiting.append(planters.submit(partial(simulation.cells, job, collected, moments)))
            while len(waiting) > MOST_WAITING:
                done.append(waiting.popleft().result())
            bar.update(job.count)
        done += [each.result() for each in waiting]
    return Cells.join(done)


def _combined(cells: Cells, droplets: Droplets) -> tuple[np.ndarray, Cells]:
    """(labels of the second cells of doublets (doublet, variable), the droplets)."""
    count, hosts = len(droplets.group), droplets.hosts
    if not len(hosts):
        return cells.labels[:0], cells
    ones = np.ones(len(hosts), np.int32)
    into = sparse.csr_matrix((ones, (hosts, np.arange(len(hosts)))), (count, len(hosts)))
    library = cells.library_size[:count].copy()
    library[hosts] += cells.library_size[count:]
    counts = (cells.counts[:count] + into @ cells.counts[count:]).tocsr().astype(np.int32, copy=False)
    counts.sort_indices()
    return cells.labels[count:], Cells(counts, cells.labels[:count], library, cells.scale[:count])


def _with_ambient(
    counts: sparse.csr_matrix, share: float, batch: np.ndarray, seed: int
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """(counts with ambient ones among them, how many a cell); what is ambient is the mean of the batch's droplets."""
    cells, genes = counts.shape
    batches = int(batch.max(initial=0)) + 1
    of_batch = sparse.csr_matrix((np.ones(cells), (batch, np.arange(cells))), (batches, cells))
    sums = np.asarray((of_batch @ counts).todense(), np.float64)
    profiles = sums / np.maximum(sums.sum(axis=1, keepdims=True), 1)
    parts = [
        contaminated(counts[rows], share, profiles, batch[rows], seed, rows.start) for rows in row_slices(cells, genes)
    ]
    found, ambient = zip(*parts, strict=True)
    return sparse.vstack(found, format="csr", dtype=np.int32), np.concatenate(ambient)


def _log_values(cells: Cells) -> sparse.csr_matrix:
    """log1p of each count over its cell's library size, on the model's scale; float32."""
    counts = cells.counts
    unit = cells.scale / np.where(cells.library_size > 0, cells.library_size, 1.0)
    values = np.log1p(counts.data * np.repeat(unit, np.diff(counts.indptr))).astype(np.float32)
    return sparse.csr_matrix((values, counts.indices.copy(), counts.indptr.copy()), counts.shape)
