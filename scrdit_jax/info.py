"""What is inside a folder or a file, in plain words."""

from __future__ import annotations

from pathlib import Path

import jax

from .checkpoint import Checkpoints, Run
from .data.preparing import is_prepared, prepared_from
from .families import FamilyFolder, is_family
from .generation import store
from .io.checking import listed
from .io.reading import load_cells
from .paths import readable_path
from .provenance import KEY, Provenance, read_uns

_NETWORKS = {
    "dit": "DiT of width {0.width}, depth {0.depth}, {0.genes_per_token} genes a token",
    "unet": "UNet of {0.channels} to 8 x {0.channels} channels",
}


def describe(path: Path | str) -> list[str]:
    """Lines about a run folder, prepared cells or synthetic cells, in plain words."""
    path = readable_path(path)
    if is_family(path):
        return _describe_family(path)
    if (path / "config.json").is_file():
        return _describe_run(Run(path))
    if store.is_store(path):
        return _describe_store(path)
    uns = read_uns(path) if path.exists() else None
    record = None if uns is None else Provenance.from_uns(uns)
    if record is not None:
        cells: object = record.cells
        if "first_cell" in uns[KEY]:
            cells = f"cells {uns[KEY]['first_cell']} to {uns[KEY]['last_cell']} of {cells}"
        return _describe_cells(record, cells)
    cells, source = load_cells(path)
    if is_prepared(cells):
        prepared = prepared_from(cells)
        return [f"prepared cells: {cells.n_obs} x {cells.n_vars} genes", *prepared.metadata.notes]
    return [f"{source}: {cells.n_obs} cells x {cells.n_vars} genes, not made by scrdit"]


def _describe_cells(record: Provenance, cells: object) -> list[str]:
    quotas = [
        f"{', '.join('any' if name is None else name for name in entry['labels'])} {entry['cells']}"
        for entry in record.quotas
        if entry["labels"]
    ]
    metadata, sampling = record.metadata, record.sampling
    trained = sum(model.metadata.n_train for model in record.models)
    models = "a model" if len(record.models) == 1 else f"a family of {len(record.models)} models"
    return [
        f"{cells} synthetic cells x {len(metadata.genes)} genes",
        f"solver {sampling['solver']}, {record.network_evaluations} network evaluations a cell, "
        f"seed {sampling['seed']}",
        f"from {models} trained {record.models[0].step} steps on {metadata.source} ({trained} cells)",
        *([f"of these: {listed(quotas)}"] if quotas else []),
        *(line for model in record.models if model.privacy is not None for line in model.privacy.sentences()),
    ]


def _describe_store(path: Path) -> list[str]:
    with store.Store(path) as shards:
        plan, records, made_on = shards.plan, shards.records(), shards.manifest.device
        done = sum(record.cells for record in records)
        lines = [
            *_describe_cells(shards.manifest.provenance, f"{done} of {plan.cells}" if done < plan.cells else done),
            f"{len(records)} of {len(plan)} shards of {plan.shard_cells} cells, "
            f"{sum(record.bytes for record in records) / 1e6:.1f} MB",
            f"batches of {plan.batch_size}; begun on {made_on['devices']} x {made_on['kind']}",
        ]
        if done:
            zeros = 1 - sum(record.nonzeros for record in records) / (done * len(shards.layout.genes))
            lines.append(f"{zeros:.1%} of the values are zeros")
        return [*lines, f"digest {shards.digest()}" if done == plan.cells else "unfinished: run the same command again"]


def _describe_family(path: Path) -> list[str]:
    family, lines = FamilyFolder.read(path), []
    for name, folder in family.members.items():
        run = Run(path / folder)
        step = "not begun"
        if run.config_path.is_file():
            with Checkpoints(run) as checkpoints:
                step = f"step {checkpoints.latest() or 0} of {run.config().training.steps}"
        lines.append(f"{name}: {step}, {run.path}")
    left_out = ", ".join(f"{name} {count}" for name, count in family.left_out.items())
    return [
        f"family {path}: {len(family.members)} runs, one for each cell type in {family.column!r}",
        *lines,
        *([f"left out, with too few training cells: {left_out}"] if left_out else []),
    ]


def _describe_run(run: Run) -> list[str]:
    config = run.config()
    with Checkpoints(run) as checkpoints:
        if checkpoints.latest() is None:
            return [f"run {run.path}: no checkpoint yet; {config.training.steps} steps wanted"]
        model, digest, best = checkpoints.load(), checkpoints.digest(), checkpoints.best()
    metadata, network = model.metadata, config.network
    size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    types = ", ".join(f"{name} {count}" for name, count in metadata.cell_types.items())
    return [
        f"run {run.path}: step {model.step} of {config.training.steps}",
        f"trained on {metadata.source}: {metadata.n_train} cells, {metadata.n_held_out} held out, "
        f"{len(metadata.genes)} genes",
        f"{_NETWORKS[network.architecture].format(network)}, {size / 1e6:.2f} M parameters; "
        f"predicts {config.diffusion.prediction}",
        f"digest {digest}",
        *([f"trains a model further, of which the digest was {config.origin}"] if config.origin is not None else []),
        *([f"carries timesteps fitted for {', '.join(map(str, model.fitted))} steps"] if model.fitted else []),
        *([f"the best held-out score is that of step {best}"] if best is not None else []),
        *([f"cell types: {types}"] if types else []),
        *(f"conditioned on {v.name}: {', '.join(v.categories)}" for v in metadata.variables),
        *([] if model.privacy is None else model.privacy.sentences()),
        *metadata.notes,
        *_real_cells_in(run),
    ]


def _real_cells_in(run: Run) -> list[str]:
    """A warning, where files of the run hold cells that were measured."""
    there = [path.name for path in (run.held_out_path, run.cells_path) if path.is_file()]
    if not there:
        return []
    verb, them = ("holds", "it") if len(there) == 1 else ("hold", "them")
    said = f"{' and '.join(there)} {verb} real cells: delete {them} before you give the run to anyone"
    return [f"{said}; sampling does without"]
