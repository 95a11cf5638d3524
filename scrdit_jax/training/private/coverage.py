"""What else of the training cells is in a model or goes with it, and that noise on the gradients does not hide.

Fields of DatasetMetadata, of ConditionTable and of a checkpoint, one after another. What a run with differential
privacy need not keep, it does not keep: `record_without_cells`.
"""

from __future__ import annotations

from dataclasses import replace

from ...checkpoint import Model
from ...conditioning.table import ConditionTable
from ...config import RunConfig
from ...data.metadata import DatasetMetadata
from ...errors import BadConfig
from .key import PrivacyKey


def record_without_cells(metadata: DatasetMetadata, key: PrivacyKey) -> DatasetMetadata:
    """Without the sentences on the cells, and with a digest that only the run itself can compare."""
    normalization = replace(metadata.normalization, sentence="")
    return replace(metadata, notes=(), normalization=normalization, digest=key.disguised(metadata.digest))


def record_of_base(metadata: DatasetMetadata, base: DatasetMetadata) -> DatasetMetadata:
    """What these cells would add to the record of the model that is trained further on them, left out: the ranges of
    genes, categories and how many cells have each. BadConfig where there are new categories."""
    for before, after in zip(base.variables, metadata.variables, strict=True):
        if new := after.categories[len(before.categories) :]:
            raise BadConfig(
                f"{before.name} has {new[0]!r} here and not in the model of --from; which categories private cells "
                "have is not covered by differential privacy: rename it, or leave these cells or --dp-epsilon out"
            )
    return replace(
        metadata,
        scaling=base.scaling,
        variables=base.variables,
        cell_types=base.cell_types,
        cell_type_key=base.cell_type_key,
    )


def not_covered(
    config: RunConfig, metadata: DatasetMetadata, conditions: ConditionTable | None, base: Model | None, unit: str
) -> tuple[str, ...]:
    """In plain words, everything that the model or its record has of the cells beside the weights."""
    sizes = f"how many cells there are{'' if unit == 'cell' else f' and of how many {unit}s'}, to train on and held out"
    sizes = [sizes, *_of_split(metadata)]
    if base is not None:
        known = base.privacy
        earlier = (
            "the cells of the model that was trained further, which are taken to be public"
            if known is None
            else f"the cells of the model that was trained further ({known.sentences()[0]})"
        )
        own_table = [] if base.conditions is not None else _of_conditions(conditions)
        return (earlier, *sizes, *own_table)
    return (*_of_genes(config, metadata), *_of_conditions(conditions), *_of_types(metadata), *sizes)


def _of_split(metadata: DatasetMetadata) -> list[str]:
    if metadata.donor_border is None or not metadata.n_held_out:
        return []
    return ["which donors are held out, as with few donors that hangs on how many cells each has"]


def _of_genes(config: RunConfig, metadata: DatasetMetadata) -> list[str]:
    scaling = metadata.scaling
    said = ["which genes were chosen" + (" and in what order the network takes them" * bool(metadata.gene_order))]
    if config.data.normalize == "auto":
        said.append("whether the values were counts")
    if config.data.standardize:
        said.append("the mean and the deviation of all values")
    if scaling.ranges is not None:
        said.append("each gene's least and greatest value, which are single cells'")
    if scaling.quantiles is not None:
        said.append("each gene's quantiles")
    return said


def _of_types(metadata: DatasetMetadata) -> list[str]:
    return ["the names of the cell types, and how many cells each has"] if metadata.cell_types else []


def _of_conditions(conditions: ConditionTable | None) -> list[str]:
    if conditions is None:
        return []
    said = []
    if conditions.variables:
        names = ", ".join(variable.name for variable in conditions.variables)
        said.append(f"the categories of {names}, and how many cells have each combination")
    if conditions.space is not None and conditions.space.columns:
        kinds = ", ".join(conditions.space.kinds)
        said.append(f"the mean and the deviation of the cells' states ({kinds})")
        if conditions.space.axes.shape[-1]:
            said.append("the principal axes")
    if conditions.prior is not None:
        said.append("the distribution that new cells' states are drawn from")
    return said
