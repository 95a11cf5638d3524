"""Conditioning variables that are derived from the cells themselves, where nobody has labelled them.

Which cluster a new cell belongs to, and how many genes it expresses, is the hardest thing for a diffusion model to
learn, and the first that it decides. Conditioned on both, it need not learn them; and as both are drawn as training
cells have them, rare clusters keep their share (cluster-conditioned diffusion: Hu et al. 2023; Adaloglou et al. 2024).
The same holds within a cluster for what varies along the principal components (conditioned on a representation of the
sample: Li et al. 2023); scores are coarse there, so that what is drawn is no copy of a training cell.

A module here is a kind of derived variable: `clusters.py` has `DERIVED = Derived(...)`, and the setting
`derive: {"clusters": 32}` asks for it.
"""

from __future__ import annotations

from ._cells import CELLS_FOR_EACH, COMPONENTS, CellView, Derivation, Derived, derive, is_derived

__all__ = ["CELLS_FOR_EACH", "COMPONENTS", "CellView", "Derivation", "Derived", "derive", "is_derived"]
