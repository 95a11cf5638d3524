"""Numbers that are found in a cell itself and that a network is conditioned on: its state.

Where a new cell lies along the principal components, how many genes it expresses and how many counts it has are the
hardest for a diffusion model to learn, and the first that it decides. Conditioned on them it need not learn them; what
they are in new cells is learnt apart (conditioning.prior; cf. representation-conditioned generation, Li et al. 2023).

A module here is a kind of number: `pc_scores.py` has `DERIVED = Derived(...)`, and the setting
`derive: {"pc-scores": 12}` asks for it.
"""

from __future__ import annotations

from ._derived import PREFIX, CellView, Derived, column_names, is_derived, principal_axes, turned_to

__all__ = ["PREFIX", "CellView", "Derived", "column_names", "is_derived", "principal_axes", "turned_to"]
