"""What synthetic cells give away of the training cells: copying, membership of cells and, where named, of donors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.splitting import donor_names
from ..errors import BadInput
from ..extras import optional
from ..io.backed import BackedMatrix
from .comparison import MINIMUM_CELLS
from .donors import DonorCells, DonorScores, require_donors, score_donors
from .membership import MOST_CANDIDATES, MOST_DEALT, RELEASES, MembershipScores, score_releases
from .memorisation import MemorisationScores, TrainingComponents, score_memorisation
from .metrics import Matrix
from .pools import Pools, gene_order, require_finite_rows

if TYPE_CHECKING:
    from anndata import AnnData

    from .cells import ComparedCells

# Of more synthetic cells so many are attacked, drawn at random, and of more held-out ones.
MOST_RELEASED, MOST_HELD_OUT = 20_000, 2 * MOST_CANDIDATES + MOST_DEALT
# Of fewer non-members a draw one in a hundred are three at most; fewer released cells give less away.
FEW_CANDIDATES, FEW_RELEASED = 300, 1000


@dataclass(frozen=True, kw_only=True)
class PrivacyScores:
    """`copying`; `membership[release]` of RELEASES; `donors`, where they are named, or the reason why not,
    `no_donors`. `notes` are sentences on what the numbers rest on."""

    copying: MemorisationScores
    membership: Mapping[str, MembershipScores]
    donors: DonorScores | None
    no_donors: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        copying, membership = self.copying, {}
        for release, found in self.membership.items():
            estimates = {"auc": found.auc, "tpr": found.tpr}
            membership[release] = {
                "released": found.released,
                "candidates": found.candidates,
                **{name: {a: e.to_dict() for a, e in by.items()} for name, by in estimates.items()},
            }
        return {
            "copying": {
                "training_cells": copying.training_cells,
                "held_out_cells": copying.held_out_cells,
                **{name: {who: e.to_dict() for who, e in by.items()} for name, by in copying.values.items()},
            },
            "membership": membership,
            "donors": None if self.donors is None else self.donors.to_dict(),
            "notes": list(self.notes),
        }


def score_privacy(
    cells: ComparedCells, pools: Pools, *, donor_key: str | None, seed: int, repeats: int
) -> tuple[PrivacyScores | None, str]:
    """The scores, or None and the reason why there are none.

    Copying is scored with the cells of the `pools`, attacks with all synthetic and held-out cells up to MOST_RELEASED
    and MOST_HELD_OUT. Donors are attacked where `donor_key` names their column, or where the model was trained with
    one.
    """
    training, reason = _training_of(cells)
    if training is None:
        return None, reason
    rng = np.random.default_rng([seed, 18])
    released = _drawn(cells.synthetic, MOST_RELEASED, rng, "synthetic")[1]
    rows, held_out = _drawn(cells.held_out, MOST_HELD_OUT, rng, "held-out")
    held_out = held_out[:, gene_order(cells.held_out, cells.synthetic)]
    key = cells.donor_key if donor_key is None else donor_key
    of_held_out = None if cells.donor_key is None else donor_names(cells.held_out.obs, cells.donor_key, "REAL")[rows]
    with optional("threadpoolctl").threadpool_limits(1):
        components = TrainingComponents.fit(training, seed=seed)
        sides = (components.project(side) for side in (training, pools.real, pools.synthetic))
        copying = score_memorisation(*sides, seed=seed, repeats=repeats)
        membership = score_releases(released, training, held_out, donors=of_held_out, seed=seed)
        donors, no_donors = None, ""
        if key is not None:
            try:
                donors = _score_donors(cells, released, training, key, seed)
            except BadInput as error:
                no_donors = str(error)
    notes = _notes(membership, cells.synthetic.n_obs)
    return PrivacyScores(copying=copying, membership=membership, donors=donors, no_donors=no_donors, notes=notes), ""


def require_attackable(cells: ComparedCells, donor_key: str) -> None:
    """BadInput where the donors in this column cannot be asked for, before anything is scored."""
    if cells.training is None:
        raise BadInput(f"donors cannot be attacked without the training cells: {cells.no_training}")
    of = (donor_names(side.obs, donor_key, "REAL") for side in (cells.training, cells.held_out))
    require_donors(*of, donor_key)


def _training_of(cells: ComparedCells) -> tuple[Matrix | BackedMatrix | None, str]:
    """The training cells (cell, gene) in the synthetic cells' order of genes; or None and why not."""
    training = cells.training
    if training is None:
        return None, cells.no_training
    columns = training.var_names.get_indexer(cells.synthetic.var_names)
    if (columns < 0).any():
        return None, "the training cells lack some of the synthetic cells' genes; evaluate with the model's own run"
    if training.n_obs < MINIMUM_CELLS:
        return None, f"{training.n_obs} training cells are too few to measure distances to"
    return training.X[:, columns], ""


def _drawn(cells: AnnData, most: int, rng: np.random.Generator, side: str) -> tuple[np.ndarray, Matrix]:
    """Row numbers of `most` cells at random, or of all, and those cells, (cell, gene) in memory."""
    rows = np.sort(rng.permutation(cells.n_obs)[:most])
    return rows, require_finite_rows(cells, rows, side)


def _score_donors(
    cells: ComparedCells, released: Matrix, training: Matrix | BackedMatrix, key: str, seed: int
) -> DonorScores:
    held_out = cells.held_out
    x = held_out.X[:, gene_order(held_out, cells.synthetic)]
    return score_donors(
        released,
        DonorCells(training, donor_names(cells.training.obs, key, "REAL")),
        DonorCells(x, donor_names(held_out.obs, key, "REAL")),
        key=key,
        seed=seed,
    )


def _notes(membership: Mapping[str, MembershipScores], there: int) -> tuple[str, ...]:
    """What is to be said of the numbers of cells."""
    of_synthetic, notes = membership[RELEASES[0]], []
    if of_synthetic.released < there:
        notes.append(f"Attacked were {of_synthetic.released:,} of the {there:,} synthetic cells, drawn at random.")
    if of_synthetic.released < FEW_RELEASED:
        notes.append(
            f"{of_synthetic.released:,} synthetic cells give away less than more of them do: evaluate as many as you "
            "release."
        )
    if of_synthetic.candidates < FEW_CANDIDATES:
        notes.append(
            f"One in a hundred of {of_synthetic.candidates:,} cells that were not trained on are very few: what is "
            f"found at 1 % false alarms is rough; {2 * FEW_CANDIDATES:,} held-out cells or more make it finer."
        )
    return tuple(notes)
