"""What to say of combinations of categories that were asked for and that few training cells have, or none."""

from __future__ import annotations

from collections.abc import Sequence

from .prior import LEAST_CELLS, Mixture
from .request import CellRequest, Quotas
from .table import ConditionTable

# Combinations that are described; the others are counted.
MOST_DESCRIBED = 3


def notes_on_unseen(quotas: Quotas, table: ConditionTable | None) -> list[str]:
    """A sentence for each of the first such combinations, with the nearest that training cells have; for all others
    one."""
    if table is None or not table.variables:
        return []
    unseen = [codes for codes in dict.fromkeys(quotas.codes) if table.seen(codes) is None]
    notes = [_note(codes, table) for codes in unseen[:MOST_DESCRIBED]]
    if len(unseen) > MOST_DESCRIBED:
        notes.append(f"no training cell has {len(unseen) - MOST_DESCRIBED} more of the combinations asked for, either")
    return notes


def notes_on_rare(request: CellRequest, table: ConditionTable | None) -> list[str]:
    """A sentence for each of the first combinations named in the request of which a learnt prior has seen too few."""
    if table is None or not isinstance(table.prior, Mixture):
        return []
    notes = []
    for cell_type in request.cell_types or (None,):
        named = dict(request.conditions) | ({} if cell_type is None else {str(table.type_variable): cell_type})
        codes = [each.code(named[each.name]) if each.name in named else -1 for each in table.variables]
        found = table.seen(codes) if named else None
        if found is not None and (cells := int(table.weights[found].sum())) < LEAST_CELLS:
            notes.append(
                f"{cells} training cell{'s have' if cells > 1 else ' has'} {_described(codes, table)}, fewer than the "
                f"{LEAST_CELLS} that states are learnt from: some new cells will be like others; compare them with "
                "real ones"
            )
    return notes[:MOST_DESCRIBED]


def _note(codes: Sequence[int], table: ConditionTable) -> str:
    found = table.nearest(codes)
    nearest = "; ".join(f"{_described(near, table)} ({cells:,} cell{'s' * (cells > 1)})" for near, cells in found)
    left_out = [variable.name for variable, code in zip(table.variables, codes, strict=True) if code < 0]
    without = f"; left out: {', '.join(left_out)}" if left_out else ""
    return f"no training cell has {_described(codes, table)}; the nearest that some have: {nearest}{without}"


def _described(codes: Sequence[int], table: ConditionTable) -> str:
    pairs = zip(table.variables, codes, strict=True)
    return ", ".join(f"{variable.name} {variable.categories[code]}" for variable, code in pairs if code >= 0)
